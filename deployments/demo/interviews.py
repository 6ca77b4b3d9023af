"""The demo's six interviews and their questions."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """One question, with how the demo's candidates answer it."""

    id: int
    skill: str
    required: bool
    weight: float
    max_score: float
    ease: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoInterview:
    """One interview, its durations and its questions."""

    id: int
    row: dict[str, Any]
    questions: list[DemoQuestion]
    question_rows: list[dict[str, Any]]

    def minutes(self, name: str) -> timedelta:
        """One of its ``…_minutes``."""
        return timedelta(minutes=self.row[f"{name}_minutes"])

    def enough(self, answered: set[int]) -> bool:
        """Whether the answered questions reach the interview's completion ratio of required ones."""
        required = [q.id for q in self.questions if q.required]
        return bool(len(answered & set(required)) >= self.row["completion_ratio"] * len(required))


# title, position, minutes (duration, no-show, idle, resume, overrun), ratio, pass score, feedback hours, offsets
_INTERVIEWS: list[tuple[str, str, tuple[int, int, int, int, int], str, str, int, list[int]]] = [
    ("Backend engineering", "Backend Engineer", (60, 15, 10, 30, 30), "0.8", "62", 48, [1440, 60]),
    ("Frontend engineering", "Frontend Engineer", (45, 15, 12, 20, 20), "0.8", "60", 48, [1440, 60, 15]),
    ("Data analysis", "Data Analyst", (50, 20, 15, 40, 30), "0.75", "58", 72, [1440, 60]),
    ("Reliability and operations", "Site Reliability Engineer", (60, 10, 20, 30, 45), "0.7", "65", 24, [2880, 60]),
    ("Product sense", "Product Manager", (40, 15, 25, 45, 20), "0.85", "64", 48, [1440, 120]),
    ("Customer care", "Support Lead", (30, 10, 10, 15, 15), "0.8", "55", 24, [1440, 30]),
]

# For each interview: text, skill, required, weight, max score
_QUESTIONS: list[list[tuple[str, str, bool, str, int]]] = [
    [
        ("Tell us about a service you are proud of.", "communication", True, "0.5", 5),
        ("Design a rate limiter for a public API.", "system design", True, "2", 10),
        ("How do you find the cause of a slow query?", "databases", True, "1.5", 5),
        ("When would you choose a queue over a call?", "system design", True, "1", 5),
        ("Explain an isolation level that surprised you.", "databases", True, "1", 5),
        ("How do you test code that talks to other services?", "testing", True, "1", 5),
        ("Review this handler: what would you change?", "code review", True, "1.5", 10),
        ("What should every service log, and what never?", "operations", False, "0.5", 5),
        ("What would you like to learn next?", "communication", False, "0.25", 5),
    ],
    [
        ("Walk us through a page you built.", "communication", True, "0.5", 5),
        ("How does a browser turn HTML into pixels?", "web platform", True, "1.5", 5),
        ("Make this form usable with a keyboard only.", "accessibility", True, "2", 10),
        ("Where should this state live?", "architecture", True, "1", 5),
        ("This list stutters when it scrolls. What do you measure?", "performance", True, "1.5", 10),
        ("What does a good component test assert?", "testing", True, "1", 5),
        ("Which new CSS feature changed how you work?", "web platform", False, "0.5", 5),
    ],
    [
        ("Describe a decision that your analysis changed.", "communication", True, "1", 5),
        ("Write a query for weekly retention.", "sql", True, "2", 10),
        ("The metric fell by a fifth overnight. What first?", "reasoning", True, "1.5", 5),
        ("When is the mean the wrong summary?", "statistics", True, "1", 5),
        ("How large must this experiment be?", "statistics", True, "1.5", 10),
        ("Choose a chart for these data and defend it.", "visualisation", True, "1", 5),
        ("How do you make a notebook repeatable?", "practice", False, "0.5", 5),
        ("Which of our numbers would you distrust?", "reasoning", False, "0.5", 5),
    ],
    [
        ("Tell us about your last incident.", "communication", True, "1", 5),
        ("A node is out of memory at night. Your first ten minutes?", "incident response", True, "2", 10),
        ("What makes an alert worth waking somebody?", "observability", True, "1.5", 5),
        ("Plan a database upgrade without an outage.", "databases", True, "1.5", 10),
        ("What do you put in an error budget?", "practice", True, "1", 5),
        ("Where would you look for a packet that vanished?", "networking", True, "1", 5),
        ("How do you test a restore?", "databases", True, "1", 5),
        ("Which toil did you remove last?", "practice", False, "0.5", 5),
        ("Explain a deploy that rolls itself back.", "automation", False, "1", 5),
        ("What do you write after an incident?", "communication", False, "0.5", 5),
    ],
    [
        ("Which product do you use and would not have built?", "product sense", True, "1", 5),
        ("Users ask for a filter. What is the problem?", "discovery", True, "1.5", 10),
        ("Choose a measure for the first week of use.", "metrics", True, "1.5", 5),
        ("Say no to this request from sales.", "communication", True, "1", 5),
        ("Cut this release in half.", "prioritisation", True, "1.5", 10),
        ("How do you know that you were wrong?", "metrics", False, "0.5", 5),
    ],
    [
        ("A customer writes in anger. Answer them.", "empathy", True, "2", 10),
        ("Explain a failed payment without jargon.", "communication", True, "1.5", 5),
        ("Which of these five tickets goes first?", "prioritisation", True, "1", 5),
        ("When do you wake an engineer?", "judgement", True, "1", 5),
        ("Turn this long answer into a help article.", "writing", True, "1", 10),
        ("How would you train a new colleague?", "leadership", False, "0.5", 5),
    ],
]


def interviews(rng: Random, base: datetime) -> list[DemoInterview]:
    """The six interviews with their questions; some questions are harder than others."""
    made, question_id = [], 0
    for id_, (details, templates) in enumerate(zip(_INTERVIEWS, _QUESTIONS, strict=True), 1):
        title, position, (duration, no_show, idle, resume, overrun), ratio, passing, hours, offsets = details
        rows, questions = [], []
        for ordinal, (text, skill, required, weight, highest) in enumerate(templates, 1):
            question_id += 1
            rows.append(
                {
                    "id": question_id,
                    "interview_id": id_,
                    "ordinal": ordinal,
                    "text": text,
                    "skill": skill,
                    "required": required,
                    "weight": Decimal(weight),
                    "max_score": Decimal(highest),
                }
            )
            seconds = 60 * duration / len(templates) * rng.uniform(0.55, 0.95)
            ease = rng.uniform(-0.16, 0.12)
            questions.append(DemoQuestion(question_id, skill, required, float(weight), float(highest), ease, seconds))
        row = {
            "id": id_,
            "title": title,
            "position": position,
            "duration_minutes": duration,
            "reminder_offsets": offsets,
            "no_show_minutes": no_show,
            "idle_minutes": idle,
            "resume_minutes": resume,
            "overrun_minutes": overrun,
            "completion_ratio": Decimal(ratio),
            "pass_score": Decimal(passing),
            "feedback_deadline_hours": hours,
            "created_at": base - timedelta(days=180 - id_),
        }
        made.append(DemoInterview(id_, row, questions, rows))
    return made
