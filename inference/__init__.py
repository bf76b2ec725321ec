"""Scoring of ultrasound views with a model bundle, without torch, DICOM or the agent."""
