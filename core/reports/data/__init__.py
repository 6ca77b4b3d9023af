"""The data of reports: periods, ratios that may be undefined, and each report's figures."""

from core.reports.data.candidate import AnswerEntry, CandidateReport, FeedbackEntry, SessionEntry, SkillStats
from core.reports.data.dashboard import (
    Attention,
    Dashboard,
    FeedbackTimes,
    Load,
    Operations,
    Scores,
    Stage,
    Totals,
    Week,
)
from core.reports.data.interview import AiHuman, InterviewReport, QuestionStats, SkillWeek
from core.reports.data.measures import Period, Ratio, Spread, Stamp, Wait

__all__ = [
    "AiHuman",
    "AnswerEntry",
    "Attention",
    "CandidateReport",
    "Dashboard",
    "FeedbackEntry",
    "FeedbackTimes",
    "InterviewReport",
    "Load",
    "Operations",
    "Period",
    "QuestionStats",
    "Ratio",
    "Scores",
    "SessionEntry",
    "SkillStats",
    "SkillWeek",
    "Spread",
    "Stage",
    "Stamp",
    "Totals",
    "Wait",
    "Week",
]
