"""Results for systems that do not speak DICOM: FHIR DiagnosticReport with Observations, HL7 v2 ORU^R01 over MLLP."""
