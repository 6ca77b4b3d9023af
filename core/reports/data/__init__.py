"""The data of reports: periods, ratios that may be undefined, and each report's figures."""

from core.reports.data.candidate import AnswerLine, CandidateReport, FeedbackLine, SessionLine, SkillFigures
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
from core.reports.data.interview import AiHuman, InterviewReport, QuestionFigures, SkillWeek
from core.reports.data.measures import Period, Ratio, Spread, Stamp, Wait

__all__ = [
    "AiHuman",
    "AnswerLine",
    "Attention",
    "CandidateReport",
    "Dashboard",
    "FeedbackLine",
    "FeedbackTimes",
    "InterviewReport",
    "Load",
    "Operations",
    "Period",
    "QuestionFigures",
    "Ratio",
    "Scores",
    "SessionLine",
    "SkillFigures",
    "SkillWeek",
    "Spread",
    "Stage",
    "Stamp",
    "Totals",
    "Wait",
    "Week",
]
