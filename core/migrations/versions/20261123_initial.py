"""initial"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


LEGAL_MOVES = [
    "invited>scheduled",
    "invited>in_progress",
    "invited>expired",
    "invited>cancelled",
    "scheduled>in_progress",
    "scheduled>no_show",
    "scheduled>cancelled",
    "in_progress>interrupted",
    "in_progress>completed",
    "in_progress>abandoned",
    "in_progress>cancelled",
    "interrupted>in_progress",
    "interrupted>completed",
    "interrupted>abandoned",
    "interrupted>cancelled",
    "no_show>in_progress",
    "no_show>completed",
    "abandoned>completed",
]

# The table of moves once more, as a trigger that no program can bypass. An update of the status that does not set
# ``sweep_at`` makes the session due for the next sweep.
GUARD = f"""
CREATE FUNCTION sessions_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status || '>' || NEW.status <> ALL ('{{{",".join(LEGAL_MOVES)}}}'::text[]) THEN
        RAISE EXCEPTION 'session % cannot go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'sessions_legal_move';
    END IF;
    IF NEW.sweep_at IS NOT DISTINCT FROM OLD.sweep_at THEN
        NEW.sweep_at := to_timestamp(0);
    END IF;
    RETURN NEW;
END
$$
"""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.create_table(
        "email_pace",
        sa.Column("one", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("one", name=op.f("email_pace_one_check")),
        sa.PrimaryKeyConstraint("one", name=op.f("email_pace_pkey")),
    )
    op.create_table(
        "email_suppressions",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("address", "category", name=op.f("email_suppressions_pkey")),
    )
    op.create_table(
        "interviews",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("duration_minutes", sa.Integer(), server_default="60", nullable=False),
        sa.Column("reminder_offsets", sa.ARRAY(sa.Integer()), server_default="{1440,60}", nullable=False),
        sa.Column("no_show_minutes", sa.Integer(), server_default="15", nullable=False),
        sa.Column("idle_minutes", sa.Integer(), server_default="10", nullable=False),
        sa.Column("resume_minutes", sa.Integer(), server_default="30", nullable=False),
        sa.Column("overrun_minutes", sa.Integer(), server_default="30", nullable=False),
        sa.Column("completion_ratio", sa.Numeric(precision=4, scale=3), server_default="0.8", nullable=False),
        sa.Column("pass_score", sa.Numeric(precision=5, scale=2), server_default="60", nullable=False),
        sa.Column("feedback_deadline_hours", sa.Integer(), server_default="48", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("15 <= ALL (reminder_offsets)", name=op.f("interviews_reminder_offsets_check")),
        sa.CheckConstraint("completion_ratio BETWEEN 0 AND 1", name=op.f("interviews_completion_ratio_check")),
        sa.CheckConstraint("duration_minutes > 0", name=op.f("interviews_duration_check")),
        sa.CheckConstraint("pass_score BETWEEN 0 AND 100", name=op.f("interviews_pass_score_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("interviews_pkey")),
    )
    op.create_table(
        "push_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "audience IN ('admin', 'recruiter', 'interviewer', 'candidate')", name=op.f("push_events_audience_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("push_events_pkey")),
    )
    op.create_index(
        "push_events_once",
        "push_events",
        ["dedupe_key"],
        unique=True,
        postgresql_where=sa.text("dedupe_key IS NOT NULL"),
    )
    op.create_index("push_events_replay", "push_events", ["destination", "id"], unique=False)
    op.create_index(
        "push_events_undelivered",
        "push_events",
        ["destination", "id"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL AND destination LIKE '/user/%%'"),
    )
    op.create_table(
        "job_counts",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job", "what", name=op.f("job_counts_pkey")),
    )
    op.create_table(
        "push_log",
        sa.Column("one", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("pruned_through", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("one", name=op.f("push_log_one_check")),
        sa.PrimaryKeyConstraint("one", name=op.f("push_log_pkey")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("quiet_from", sa.Time(), nullable=True),
        sa.Column("quiet_until", sa.Time(), nullable=True),
        sa.Column("token_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("token_raised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'recruiter', 'interviewer', 'candidate')", name=op.f("users_role_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
    )
    op.create_index(
        "users_email_living",
        "users",
        [sa.literal_column("lower(email)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "candidates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("candidates_user_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("candidates_pkey")),
        sa.UniqueConstraint("user_id", name=op.f("candidates_user_id_key")),
    )
    op.create_index(
        "candidates_email_living",
        "candidates",
        [sa.literal_column("lower(email)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("idempotency_keys_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "route", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index("idempotency_keys_age", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "notification_preferences",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.CheckConstraint("channel IN ('in_app', 'email')", name=op.f("notification_preferences_channel_check")),
        sa.CheckConstraint("delivery IN ('instant', 'off')", name=op.f("notification_preferences_delivery_check")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("notification_preferences_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "category", "channel", name=op.f("notification_preferences_pkey")),
    )
    op.create_table(
        "questions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("interview_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("skill", sa.Text(), nullable=False),
        sa.Column("required", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("weight", sa.Numeric(precision=6, scale=3), server_default="1", nullable=False),
        sa.Column("max_score", sa.Numeric(precision=6, scale=2), server_default="5", nullable=False),
        sa.CheckConstraint("weight > 0 AND max_score > 0", name=op.f("questions_weight_check")),
        sa.ForeignKeyConstraint(["interview_id"], ["interviews.id"], name=op.f("questions_interview_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("questions_pkey")),
        sa.UniqueConstraint(
            "interview_id",
            "ordinal",
            deferrable=True,
            initially="IMMEDIATE",
            name=op.f("questions_interview_id_ordinal_key"),
        ),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.BigInteger(), nullable=True),
        sa.Column("email_to", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("data_as_of", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'ready', 'failed')", name=op.f("reports_status_check")),
        sa.CheckConstraint(
            "type IN ('dashboard_pdf', 'dashboard_csv', 'interview_pdf', 'candidate_pdf')",
            name=op.f("reports_type_check"),
        ),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("reports_requested_by_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("reports_pkey")),
        sa.UniqueConstraint("dedupe_key", name=op.f("reports_dedupe_key_key")),
    )
    op.create_index("reports_by_requester", "reports", ["requested_by", "id"], unique=False)
    op.create_index(
        "reports_in_flight",
        "reports",
        ["requested_by", "request_hash"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "reports_lease", "reports", ["lease_until"], unique=False, postgresql_where=sa.text("status = 'running'")
    )
    op.create_index(
        "reports_waiting", "reports", ["due_at"], unique=False, postgresql_where=sa.text("status = 'queued'")
    )
    op.create_table(
        "report_files",
        sa.Column("report_id", sa.Uuid(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name=op.f("report_files_report_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("report_id", name=op.f("report_files_pkey")),
    )
    op.create_table(
        "report_slices",
        sa.Column("report_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"],
            ["report_files.report_id"],
            name=op.f("report_slices_report_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("report_id", "ordinal", name=op.f("report_slices_pkey")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.BigInteger(), nullable=False),
        sa.Column("interview_id", sa.BigInteger(), nullable=False),
        sa.Column("interviewer_id", sa.BigInteger(), nullable=True),
        sa.Column("recruiter_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("scheduled_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scheduled_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("schedule_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("invitation_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ics_uid", sa.Text(), nullable=False),
        sa.Column("ics_sequence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("activity_pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("no_show_party", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(precision=5, scale=2), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("legal_hold", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("retry_of", sa.Uuid(), nullable=True),
        sa.Column("late_version", sa.Integer(), nullable=True),
        sa.Column("feedback_overdue_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sweep_at", sa.DateTime(timezone=True), server_default=sa.text("to_timestamp(0)"), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        postgresql.ExcludeConstraint(
            (sa.column("interviewer_id"), "="),
            (sa.text("tstzrange(scheduled_start, scheduled_end)"), "&&"),
            where=sa.text(
                "status IN ('scheduled', 'in_progress', 'interrupted') AND interviewer_id IS NOT NULL AND deleted_at IS NULL AND scheduled_start IS NOT NULL"
            ),
            using="gist",
            name="sessions_double_booked",
        ),
        sa.CheckConstraint("decision IN ('advance', 'reject', 'hold')", name=op.f("sessions_decision_check")),
        sa.CheckConstraint("no_show_party IN ('candidate', 'interviewer')", name=op.f("sessions_no_show_party_check")),
        sa.CheckConstraint(
            "status <> 'invited' OR invitation_expires_at IS NOT NULL", name=op.f("sessions_invitation_check")
        ),
        sa.CheckConstraint(
            "status <> 'scheduled' OR scheduled_start IS NOT NULL", name=op.f("sessions_scheduled_start_check")
        ),
        sa.CheckConstraint(
            "status IN ('invited', 'scheduled', 'in_progress', 'interrupted', 'completed', 'abandoned', 'no_show', 'expired', 'cancelled')",
            name=op.f("sessions_status_check"),
        ),
        sa.CheckConstraint(
            "(scheduled_start IS NULL) = (scheduled_end IS NULL) AND scheduled_end > scheduled_start",
            name=op.f("sessions_schedule_check"),
        ),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name=op.f("sessions_candidate_id_fkey")),
        sa.ForeignKeyConstraint(["interview_id"], ["interviews.id"], name=op.f("sessions_interview_id_fkey")),
        sa.ForeignKeyConstraint(["interviewer_id"], ["users.id"], name=op.f("sessions_interviewer_id_fkey")),
        sa.ForeignKeyConstraint(["recruiter_id"], ["users.id"], name=op.f("sessions_recruiter_id_fkey")),
        sa.ForeignKeyConstraint(["retry_of"], ["sessions.id"], name=op.f("sessions_retry_of_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pkey")),
    )
    op.create_index("sessions_by_candidate", "sessions", ["candidate_id", "id"], unique=False)
    op.create_index(
        "sessions_by_interviewer",
        "sessions",
        ["interviewer_id", "id"],
        unique=False,
        postgresql_where=sa.text("interviewer_id IS NOT NULL"),
    )
    op.create_index(
        "sessions_by_retry", "sessions", ["retry_of"], unique=False, postgresql_where=sa.text("retry_of IS NOT NULL")
    )
    op.create_index(
        "sessions_by_start",
        "sessions",
        ["scheduled_start"],
        unique=False,
        postgresql_where=sa.text("scheduled_start IS NOT NULL"),
    )
    op.create_index(
        "sessions_by_status", "sessions", ["status", "id"], unique=False, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index(
        "sessions_one_open",
        "sessions",
        ["candidate_id", "interview_id"],
        unique=True,
        postgresql_where=sa.text(
            "status IN ('invited', 'scheduled', 'in_progress', 'interrupted') AND deleted_at IS NULL"
        ),
    )
    op.create_index(
        "sessions_retention",
        "sessions",
        ["status_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('abandoned', 'expired') AND deleted_at IS NULL AND NOT legal_hold"),
    )
    op.create_index(
        "sessions_sweep",
        "sessions",
        ["sweep_at", "id"],
        unique=False,
        postgresql_where=sa.text("sweep_at IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("question_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(precision=6, scale=2), nullable=True),
        sa.Column("seconds", sa.Integer(), nullable=True),
        sa.Column("scored_by", sa.BigInteger(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('ai', 'human')", name=op.f("answers_source_check")),
        sa.CheckConstraint("score >= 0", name=op.f("answers_score_check")),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"], name=op.f("answers_question_id_fkey")),
        sa.ForeignKeyConstraint(["scored_by"], ["users.id"], name=op.f("answers_scored_by_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("answers_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("answers_pkey")),
        sa.UniqueConstraint(
            "session_id", "question_id", "source", name=op.f("answers_session_id_question_id_source_key")
        ),
    )
    op.create_table(
        "emails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="5", nullable=False),
        sa.Column("on_demand", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("schedule_version", sa.Integer(), nullable=True),
        sa.Column("requested_by", sa.BigInteger(), nullable=True),
        sa.Column("to_address", sa.Text(), nullable=False),
        sa.Column("to_name", sa.Text(), nullable=True),
        sa.Column("reply_to", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text_body", sa.Text(), nullable=True),
        sa.Column("html_body", sa.Text(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("category", sa.Text(), server_default="generic", nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uncertain_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('generic', 'invitation', 'reschedule', 'cancellation', 'reminder', 'completion', 'report')",
            name=op.f("emails_kind_check"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'sending', 'sent', 'uncertain', 'dead', 'suppressed', 'cancelled', 'expired')",
            name=op.f("emails_status_check"),
        ),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("emails_requested_by_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("emails_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("emails_pkey")),
        sa.UniqueConstraint("idempotency_key", name=op.f("emails_idempotency_key_key")),
        sa.UniqueConstraint("message_id", name=op.f("emails_message_id_key")),
    )
    op.create_index(
        "emails_attention",
        "emails",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status IN ('dead', 'uncertain')"),
    )
    op.create_index("emails_by_time", "emails", ["created_at"], unique=False, postgresql_include=["status"])
    op.create_index("emails_counted", "emails", ["status", "kind", "attempts"], unique=False)
    op.create_index(
        "emails_due", "emails", ["priority", "due_at"], unique=False, postgresql_where=sa.text("status = 'queued'")
    )
    op.create_index(
        "emails_lease", "emails", ["lease_until"], unique=False, postgresql_where=sa.text("lease_until IS NOT NULL")
    )
    op.create_index("emails_next", "emails", ["due_at"], unique=False, postgresql_where=sa.text("status = 'queued'"))
    op.create_index(
        "emails_on_demand",
        "emails",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND on_demand"),
    )
    op.create_index(
        "emails_retry",
        "emails",
        ["retry_at"],
        unique=False,
        postgresql_where=sa.text("status = 'uncertain' AND retry_at IS NOT NULL"),
    )
    op.create_index(
        "emails_of_session", "emails", ["session_id"], unique=False, postgresql_where=sa.text("session_id IS NOT NULL")
    )
    op.create_table(
        "feedback",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("interviewer_id", sa.BigInteger(), nullable=False),
        sa.Column("recommendation", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "submitted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "recommendation IN ('strong_no', 'no', 'yes', 'strong_yes')", name=op.f("feedback_recommendation_check")
        ),
        sa.ForeignKeyConstraint(["interviewer_id"], ["users.id"], name=op.f("feedback_interviewer_id_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("feedback_session_id_fkey")),
        sa.PrimaryKeyConstraint("session_id", "interviewer_id", name=op.f("feedback_pkey")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('admin', 'recruiter', 'interviewer', 'candidate')", name=op.f("notifications_role_check")
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'cancelled', 'expired')", name=op.f("notifications_status_check")
        ),
        sa.CheckConstraint("user_id IS NULL OR role IS NULL", name=op.f("notifications_recipient_check")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("notifications_created_by_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("notifications_session_id_fkey")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("notifications_user_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("notifications_pkey")),
        sa.UniqueConstraint("dedupe_key", name=op.f("notifications_dedupe_key_key")),
    )
    op.create_index(
        "notifications_broadcasts",
        "notifications",
        ["role", "delivered_at", "id"],
        unique=False,
        postgresql_where=sa.text("user_id IS NULL AND status = 'delivered'"),
    )
    op.create_index(
        "notifications_expiring",
        "notifications",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'delivered') AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "notifications_inbox",
        "notifications",
        ["user_id", "delivered_at", "id"],
        unique=False,
        postgresql_where=sa.text("user_id IS NOT NULL AND status = 'delivered'"),
    )
    op.create_index(
        "notifications_of_session",
        "notifications",
        ["session_id"],
        unique=False,
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_index(
        "notifications_pending",
        "notifications",
        ["not_before"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "reminders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("schedule_version", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("offset_minutes", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("send_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default="planned", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("recipient IN ('candidate', 'interviewer')", name=op.f("reminders_recipient_check")),
        sa.CheckConstraint("status IN ('planned', 'sent', 'skipped', 'void')", name=op.f("reminders_status_check")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("reminders_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("reminders_pkey")),
        sa.UniqueConstraint(
            "session_id",
            "schedule_version",
            "recipient",
            "offset_minutes",
            name=op.f("reminders_session_id_schedule_version_recipient_offset_minutes_key"),
        ),
    )
    op.create_index(
        "reminders_due", "reminders", ["due_at"], unique=False, postgresql_where=sa.text("status = 'planned'")
    )
    op.create_index(
        "reminders_by_due",
        "reminders",
        ["due_at"],
        unique=False,
        postgresql_include=["status", "reason", "sent_at", "send_by"],
    )
    op.create_index(
        "reminders_skipped", "reminders", ["send_by"], unique=False, postgresql_where=sa.text("status = 'skipped'")
    )
    op.create_index(
        "notifications_deleted",
        "notifications",
        ["id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "emails_content",
        "emails",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("text_body IS NOT NULL OR html_body IS NOT NULL"),
    )
    op.create_table(
        "session_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("old_status", sa.Text(), nullable=True),
        sa.Column("new_status", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "actor IN ('candidate', 'interviewer', 'recruiter', 'admin', 'system')",
            name=op.f("session_events_actor_check"),
        ),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("session_events_actor_id_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("session_events_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("session_events_pkey")),
        sa.UniqueConstraint("session_id", "dedupe_key", name=op.f("session_events_session_id_dedupe_key_key")),
    )
    op.create_index("session_events_history", "session_events", ["session_id", "id"], unique=False)
    op.create_table(
        "email_attachments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["email_id"], ["emails.id"], name=op.f("email_attachments_email_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("email_attachments_pkey")),
        sa.UniqueConstraint("email_id", "ordinal", name=op.f("email_attachments_email_id_ordinal_key")),
    )
    op.create_table(
        "notification_receipts",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("notification_id", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["notification_id"], ["notifications.id"], name=op.f("notification_receipts_notification_id_fkey")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("notification_receipts_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "notification_id", name=op.f("notification_receipts_pkey")),
    )
    op.create_index("notification_receipts_of", "notification_receipts", ["notification_id"], unique=False)
    op.create_index(
        "notification_receipts_unread",
        "notification_receipts",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("read_at IS NULL AND archived_at IS NULL"),
    )
    op.execute("INSERT INTO push_log DEFAULT VALUES")
    op.execute(GUARD)
    op.execute(
        "CREATE TRIGGER sessions_guard BEFORE UPDATE OF status ON sessions FOR EACH ROW"
        " WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION sessions_guard()"
    )


def downgrade() -> None:
    op.drop_index(
        "notification_receipts_unread",
        table_name="notification_receipts",
        postgresql_where=sa.text("read_at IS NULL AND archived_at IS NULL"),
    )
    op.drop_index("notification_receipts_of", table_name="notification_receipts")
    op.drop_table("notification_receipts")
    op.drop_table("email_attachments")
    op.drop_index("session_events_history", table_name="session_events")
    op.drop_table("session_events")
    op.drop_index(
        "emails_content",
        table_name="emails",
        postgresql_where=sa.text("text_body IS NOT NULL OR html_body IS NOT NULL"),
    )
    op.drop_index(
        "notifications_deleted", table_name="notifications", postgresql_where=sa.text("deleted_at IS NOT NULL")
    )
    op.drop_index(
        "reminders_by_due", table_name="reminders", postgresql_include=["status", "reason", "sent_at", "send_by"]
    )
    op.drop_index("reminders_skipped", table_name="reminders", postgresql_where=sa.text("status = 'skipped'"))
    op.drop_index("reminders_due", table_name="reminders", postgresql_where=sa.text("status = 'planned'"))
    op.drop_table("reminders")
    op.drop_index("notifications_pending", table_name="notifications", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index(
        "notifications_of_session", table_name="notifications", postgresql_where=sa.text("session_id IS NOT NULL")
    )
    op.drop_index(
        "notifications_inbox",
        table_name="notifications",
        postgresql_where=sa.text("user_id IS NOT NULL AND status = 'delivered'"),
    )
    op.drop_index(
        "notifications_expiring",
        table_name="notifications",
        postgresql_where=sa.text("status IN ('pending', 'delivered') AND expires_at IS NOT NULL"),
    )
    op.drop_index(
        "notifications_broadcasts",
        table_name="notifications",
        postgresql_where=sa.text("user_id IS NULL AND status = 'delivered'"),
    )
    op.drop_table("notifications")
    op.drop_table("feedback")
    op.drop_index("emails_on_demand", table_name="emails", postgresql_where=sa.text("status = 'queued' AND on_demand"))
    op.drop_index(
        "emails_retry",
        table_name="emails",
        postgresql_where=sa.text("status = 'uncertain' AND retry_at IS NOT NULL"),
    )
    op.drop_index("emails_of_session", table_name="emails", postgresql_where=sa.text("session_id IS NOT NULL"))
    op.drop_index("emails_next", table_name="emails", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("emails_lease", table_name="emails", postgresql_where=sa.text("lease_until IS NOT NULL"))
    op.drop_index("emails_due", table_name="emails", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("emails_counted", table_name="emails")
    op.drop_index("emails_by_time", table_name="emails", postgresql_include=["status"])
    op.drop_index("emails_attention", table_name="emails", postgresql_where=sa.text("status IN ('dead', 'uncertain')"))
    op.drop_table("emails")
    op.drop_table("answers")
    op.drop_index(
        "sessions_sweep", table_name="sessions", postgresql_where=sa.text("sweep_at IS NOT NULL AND deleted_at IS NULL")
    )
    op.drop_index(
        "sessions_retention",
        table_name="sessions",
        postgresql_where=sa.text("status IN ('abandoned', 'expired') AND deleted_at IS NULL AND NOT legal_hold"),
    )
    op.drop_index(
        "sessions_one_open",
        table_name="sessions",
        postgresql_where=sa.text(
            "status IN ('invited', 'scheduled', 'in_progress', 'interrupted') AND deleted_at IS NULL"
        ),
    )
    op.drop_index("sessions_by_status", table_name="sessions", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("sessions_by_start", table_name="sessions", postgresql_where=sa.text("scheduled_start IS NOT NULL"))
    op.drop_index("sessions_by_retry", table_name="sessions", postgresql_where=sa.text("retry_of IS NOT NULL"))
    op.drop_index(
        "sessions_by_interviewer", table_name="sessions", postgresql_where=sa.text("interviewer_id IS NOT NULL")
    )
    op.drop_index("sessions_by_candidate", table_name="sessions")
    op.drop_table("sessions")
    op.drop_table("report_slices")
    op.drop_table("report_files")
    op.drop_index("reports_waiting", table_name="reports", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("reports_lease", table_name="reports", postgresql_where=sa.text("status = 'running'"))
    op.drop_index(
        "reports_in_flight", table_name="reports", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_index("reports_by_requester", table_name="reports")
    op.drop_table("reports")
    op.drop_table("questions")
    op.drop_table("notification_preferences")
    op.drop_index("idempotency_keys_age", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("candidates_email_living", table_name="candidates", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("candidates")
    op.drop_index("users_email_living", table_name="users", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("users")
    op.drop_table("push_log")
    op.drop_table("job_counts")
    op.drop_index(
        "push_events_undelivered",
        table_name="push_events",
        postgresql_where=sa.text("delivered_at IS NULL AND destination LIKE '/user/%%'"),
    )
    op.drop_index("push_events_replay", table_name="push_events")
    op.drop_index("push_events_once", table_name="push_events", postgresql_where=sa.text("dedupe_key IS NOT NULL"))
    op.drop_table("push_events")
    op.drop_table("interviews")
    op.drop_table("email_suppressions")
    op.drop_table("email_pace")
    op.execute("DROP FUNCTION sessions_guard")
