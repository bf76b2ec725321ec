"""The ledger's tables. Times are seconds since 1970 UTC; every name of a column is DICOM's where DICOM has one."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_UID = sa.String(64)
_SHA256 = sa.String(64)
_AE = sa.String(16)
_ROW = sa.Integer


def _row_id() -> sa.Column[int]:
    return sa.Column("id", _ROW, primary_key=True, autoincrement=True)


associations = sa.Table(
    "associations",
    metadata,
    _row_id(),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("calling_ae_title", _AE, nullable=False),
    sa.Column("called_ae_title", _AE, nullable=False),
    sa.Column("peer_host", sa.String(64), nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
    sa.Column("closed_at", sa.Float, index=True),
    sa.Column("outcome", sa.String(16)),  # released, aborted, lost
    sa.Column("audited_at", sa.Float, index=True),
)

groups = sa.Table(
    "groups",
    metadata,
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("study_instance_uid", _UID, nullable=False),  # the newest: the report is filed in it
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("quiet_since", sa.Float, nullable=False),
    sa.Column("receiving", sa.Boolean, nullable=False, index=True),
    sa.Column("closed_at", sa.Float),
    sa.Column("interruptions", sa.Integer, nullable=False),  # associations that ended without a release
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_instance_uid", _UID, primary_key=True),
    sa.Column("group_id", sa.ForeignKey("groups.id"), nullable=False, index=True),
    sa.Column("study_date", sa.String(8), nullable=False),
    sa.Column("patient_id", sa.String(256), nullable=False),
    sa.Column("issuer_of_patient_id", sa.String(256), nullable=False),
    sa.Column("accession_number", sa.String(64), nullable=False),
    sa.Column("first_at", sa.Float, nullable=False, index=True),
)

instances = sa.Table(
    "instances",
    metadata,
    _row_id(),
    sa.Column("sha256", _SHA256, nullable=False, unique=True),
    sa.Column("sop_instance_uid", _UID, nullable=False, index=True),
    sa.Column("sop_class_uid", _UID, nullable=False),
    sa.Column("study_instance_uid", _UID, nullable=False, index=True),
    sa.Column("series_instance_uid", _UID, nullable=False),
    sa.Column("transfer_syntax_uid", _UID, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("patient_id", sa.String(256), nullable=False),
    sa.Column("issuer_of_patient_id", sa.String(256), nullable=False),
    sa.Column("received_at", sa.Float),  # NULL: only ever retrieved, so it never groups
    sa.Column("times_received", sa.Integer, nullable=False),
    sa.Column("association_id", sa.ForeignKey("associations.id"), index=True),  # NULL, too, once that is forgotten
    sa.Column("may_be_scored", sa.Boolean, nullable=False),
    sa.Column("not_scored_reason", sa.String(128)),
    sa.Column("conflict", sa.Boolean, nullable=False),
    sa.Column("removed_at", sa.Float),  # the file is gone, by retention; the archive has it
)

sending = sa.Table(
    "sending",
    metadata,
    sa.Column("association_id", sa.ForeignKey("associations.id"), primary_key=True),
    sa.Column("group_id", sa.ForeignKey("groups.id"), primary_key=True, index=True),
    sa.Column("last_at", sa.Float, nullable=False),
)

work_items = sa.Table(
    "work_items",
    metadata,
    _row_id(),
    sa.Column("group_id", sa.String(128), nullable=False, index=True),
    sa.Column("study_instance_uid", _UID, nullable=False, index=True),
    sa.Column("result_key", _SHA256, nullable=False, index=True),
    sa.Column("bundle_digest", _SHA256, nullable=False),
    sa.Column("bundle_path", sa.String(1024)),  # NULL: the configured bundle
    sa.Column("cause", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.String(256)),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("not_before", sa.Float, nullable=False),
    sa.Column("woken_at", sa.Float, nullable=False),
    sa.Column("lease_owner", sa.String(128)),
    sa.Column("lease_until", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),  # of the present step
    sa.Column("delivering_since", sa.Float),  # from here on it can no longer be superseded
    sa.Column("replaces_key", _SHA256),
    sa.Column("last_error", sa.String(512)),
    sa.Column("audited_at", sa.Float, index=True),
)

work_item_instances = sa.Table(
    "work_item_instances",
    metadata,
    sa.Column("work_item_id", sa.ForeignKey("work_items.id"), primary_key=True),
    sa.Column("instance_id", sa.ForeignKey("instances.id"), primary_key=True),
)

retrievals = sa.Table(
    "retrievals",
    metadata,
    _row_id(),
    sa.Column("work_item_id", sa.ForeignKey("work_items.id"), nullable=False, index=True),
    sa.Column("study_instance_uid", _UID, nullable=False, index=True),
    sa.Column("archive", sa.String(128), nullable=False),
    sa.Column("method", sa.String(8)),  # C-GET or C-MOVE
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
)

retrieval_instances = sa.Table(
    "retrieval_instances",
    metadata,
    sa.Column("retrieval_id", sa.ForeignKey("retrievals.id"), primary_key=True),
    sa.Column("instance_id", sa.ForeignKey("instances.id"), primary_key=True),
)

fetched_studies = sa.Table(
    "fetched_studies",  # as the archive's images describe them; one that came by itself has a row in `studies`, too
    metadata,
    sa.Column("study_instance_uid", _UID, primary_key=True),
    sa.Column("study_date", sa.String(8), nullable=False),
    sa.Column("patient_id", sa.String(256), nullable=False),
    sa.Column("issuer_of_patient_id", sa.String(256), nullable=False),
    sa.Column("accession_number", sa.String(64), nullable=False),
)

steps = sa.Table(
    "steps",
    metadata,
    _row_id(),
    sa.Column("work_item_id", sa.ForeignKey("work_items.id"), nullable=False, index=True),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("outcome", sa.String(256)),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("result_key", _SHA256, primary_key=True),
    sa.Column("group_id", sa.String(128), nullable=False, index=True),
    sa.Column("content_at", sa.Float, nullable=False),  # every date written into the result
    sa.Column("replaces_key", _SHA256),
    sa.Column("outcome", sa.Text, nullable=False),  # domain.score.ScoreOutcome as JSON
    sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()),  # scored blinded; see `releases`
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("group_id", sa.String(128), primary_key=True),
    sa.Column("released_at", sa.Float, nullable=False),
    sa.Column("released_by", sa.String(128), nullable=False),
)

order_checks = sa.Table(
    "order_checks",
    metadata,
    sa.Column("work_item_id", sa.ForeignKey("work_items.id"), primary_key=True),
    sa.Column("group_id", sa.String(128), nullable=False, index=True),
    sa.Column("worklist", sa.String(128), nullable=False),  # whom was asked
    sa.Column("result", sa.String(32), nullable=False),  # domain.orders.OrderResult
    sa.Column("detail", sa.String(256), nullable=False),
    sa.Column("checked_at", sa.Float, nullable=False),
)

procedure_steps = sa.Table(
    "procedure_steps",  # Unified Procedure Steps that we perform for somebody else's worklist
    metadata,
    _row_id(),
    sa.Column("provider", sa.String(128), nullable=False),
    sa.Column("sop_instance_uid", _UID, nullable=False),
    sa.Column("transaction_uid", _UID, nullable=False),  # recorded before it is used: a claim can be told as ours
    sa.Column("study_instance_uid", _UID, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # domain.procedure_step.Performing
    sa.Column("work_item_id", sa.ForeignKey("work_items.id")),
    sa.Column("progress", sa.String(32)),  # what the provider was last told
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False),
    sa.Column("last_error", sa.String(512)),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, index=True),
    sa.UniqueConstraint("provider", "sop_instance_uid"),
)

result_objects = sa.Table(
    "result_objects",
    metadata,
    sa.Column("sop_instance_uid", _UID, primary_key=True),
    sa.Column("result_key", _SHA256, nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("sop_class_uid", _UID, nullable=False),
    sa.Column("series_instance_uid", _UID, nullable=False),
    sa.Column("study_instance_uid", _UID, nullable=False),
    sa.Column("sha256", _SHA256, nullable=False),  # of the Part 10 file as kept
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    _row_id(),
    sa.Column("work_item_id", sa.ForeignKey("work_items.id"), nullable=False, index=True),
    sa.Column("sop_instance_uid", sa.ForeignKey("result_objects.sop_instance_uid"), nullable=False),
    sa.Column("destination", sa.String(128)),  # NULL: kept only
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("proof", sa.String(32)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False),
    sa.Column("look_first", sa.Boolean, nullable=False),
    sa.Column("last_error", sa.String(512)),
    sa.Column("sent_at", sa.Float),
    sa.Column("proved_at", sa.Float),
    sa.Column("transaction_uid", _UID, index=True),  # of the newest request for storage commitment
    sa.Column("commitment_status", sa.Integer),  # what it came to: 0 committed, else Failure Reason (0008,1197)
    sa.UniqueConstraint("work_item_id", "sop_instance_uid", "destination"),
)

observations = sa.Table(  # what the model is watched by: a row for a study and a bundle, of its newest score
    "observations",
    metadata,
    sa.Column("group_id", sa.String(128), primary_key=True),
    sa.Column("bundle_digest", _SHA256, primary_key=True),
    sa.Column("study_instance_uid", _UID, nullable=False),
    sa.Column("result_key", _SHA256, nullable=False),
    sa.Column("at", sa.Float, nullable=False),  # when the study came
    sa.Column("scanner", sa.String(64), nullable=False),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),  # scored, not refused
    sa.Column("figures", sa.Text, nullable=False),  # JSON: a number or a word by name
    sa.Index("ix_observations_bundle_digest", "bundle_digest", "at"),
)

shadow_scores = sa.Table(  # what a shadow bundle said of a result key; nothing is ever built or sent from it
    "shadow_scores",
    metadata,
    sa.Column("result_key", _SHA256, primary_key=True),  # of the live score
    sa.Column("bundle_digest", _SHA256, primary_key=True),  # of the shadow bundle
    sa.Column("study_instance_uid", _UID, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # started, done, failed
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("grade", sa.String(2)),
    sa.Column("fat_fraction_percent", sa.Float),
    sa.Column("refusal", sa.String(32)),
    sa.Column("reason", sa.String(256)),  # why it failed
    sa.Index("ix_shadow_scores_bundle_digest", "bundle_digest", "state"),
)

reader_grades = sa.Table(  # what people said of studies; the newest of a reader and study counts
    "reader_grades",
    metadata,
    _row_id(),
    sa.Column("study_instance_uid", _UID, nullable=False, index=True),
    sa.Column("reader", sa.String(16), nullable=False),  # a keyed hash of the name
    sa.Column("grade", sa.String(2), nullable=False),
    sa.Column("source", sa.String(8), nullable=False),  # sr, page
    sa.Column("sop_instance_uid", _UID),  # of the report
    sa.Column("graded_at", sa.Float, nullable=False),  # as the report says, else as it came
    sa.Column("kept_at", sa.Float, nullable=False),
    sa.Column("before_result", sa.Boolean),  # graded without knowing the result; NULL: nobody said
)

reader_reports = sa.Table(  # which received reports were looked at for a reader's grade
    "reader_reports",
    metadata,
    sa.Column("instance_id", sa.ForeignKey("instances.id"), primary_key=True),
    sa.Column("looked_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
)

ended_sessions = sa.Table(
    "ended_sessions",  # sessions of the page that were logged out of; the others prove themselves
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False),  # then the row says nothing any more
)

tallies = sa.Table(  # totals of rows that `history` removed, for metrics
    "tallies",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("label", sa.String(32), primary_key=True),
    sa.Column("part", sa.String(16), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
