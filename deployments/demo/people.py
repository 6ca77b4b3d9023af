"""The demo's people: ten users and forty candidates, from all over the world."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from random import Random
from typing import Any

# Users 1 to 4 are named in the documentation; the others are more interviewers.
USERS: list[tuple[str, str, str, str]] = [
    ("admin@demo.example", "Ada Okafor", "admin", "Europe/London"),
    ("recruiter@demo.example", "Rui Tavares", "recruiter", "Europe/Lisbon"),
    ("interviewer@demo.example", "Ines Brandão", "interviewer", "Europe/Lisbon"),
    ("candidate@demo.example", "Carla Núñez", "candidate", "Europe/Madrid"),
    ("jonas@demo.example", "Jonas Åkerlund", "interviewer", "Europe/Stockholm"),
    ("meera@demo.example", "मीरा जोशी", "interviewer", "Asia/Kolkata"),
    ("omar@demo.example", "عمر الحداد", "interviewer", "Africa/Cairo"),
    ("haruka@demo.example", "佐藤 遥", "interviewer", "Asia/Tokyo"),
    ("zofia@demo.example", "Zofia Wójcik", "interviewer", "Europe/Warsaw"),
    ("daniel@demo.example", "Daniel Reyes", "interviewer", "America/New_York"),
]
ADMIN, RECRUITER, INTERVIEWER, CANDIDATE = 1, 2, 3, 4
INTERVIEWERS = [place for place, user in enumerate(USERS, 1) if user[2] == "interviewer"]

CANDIDATES: list[tuple[str, str, str]] = [
    ("Łukasz Żółkiewski", "lukasz.zolkiewski", "Europe/Warsaw"),
    ("Zoë O’Sullivan-Díaz", "zoe.osullivan", "Europe/Dublin"),
    ("فاطمة الزهراء بنعلي", "fatima.benali", "Africa/Casablanca"),
    ("Carla Núñez", "candidate", "Europe/Madrid"),
    ("יעל בן־דוד", "yael.bendavid", "Asia/Jerusalem"),
    ("अनन्या शर्मा", "ananya.sharma", "Asia/Kolkata"),
    ("王小明", "xiaoming.wang", "Asia/Shanghai"),
    ("สมชาย ใจดี", "somchai.jaidee", "Asia/Bangkok"),
    ("Nguyễn Thị Hồng", "hong.nguyen", "Asia/Ho_Chi_Minh"),
    ("김서연", "seoyeon.kim", "Asia/Seoul"),
    ("鈴木 一郎", "ichiro.suzuki", "Asia/Tokyo"),
    ("Þórdís Jónsdóttir", "thordis.jonsdottir", "Atlantic/Reykjavik"),
    ("Олена Шевченко", "olena.shevchenko", "Europe/Kyiv"),
    ("Γιώργος Παπαδόπουλος", "giorgos.papadopoulos", "Europe/Athens"),
    ("ნინო ბერიძე", "nino.beridze", "Asia/Tbilisi"),
    ("Արամ Պետրոսյան", "aram.petrosyan", "Asia/Yerevan"),
    ("Şule Yıldız", "sule.yildiz", "Europe/Istanbul"),
    ("رضا محمدی", "reza.mohammadi", "Asia/Tehran"),
    ("তানিয়া রহমান", "tania.rahman", "Asia/Dhaka"),
    ("கார்த்திக் சுப்ரமணியன்", "karthik.subramanian", "Asia/Kolkata"),
    ("François Lefèvre", "francois.lefevre", "Europe/Paris"),
    ("Jürgen Müßig", "juergen.muessig", "Europe/Berlin"),
    ("Ana Beatriz Conceição", "ana.conceicao", "America/Sao_Paulo"),
    ("Mateo Ñáñez", "mateo.nanez", "America/Bogota"),
    ("Siobhán Ní Bhriain", "siobhan.nibhriain", "Europe/Dublin"),
    ("Tiina Mäkelä", "tiina.makela", "Europe/Helsinki"),
    ("Árpád Szűcs", "arpad.szucs", "Europe/Budapest"),
    ("Jiří Dvořák", "jiri.dvorak", "Europe/Prague"),
    ("Ștefan Țurcanu", "stefan.turcanu", "Europe/Bucharest"),
    ("Chidinma Ọkáfọ̀", "chidinma.okafo", "Africa/Lagos"),
    ("Thabo Mokoena", "thabo.mokoena", "Africa/Johannesburg"),
    ("ሰላም ተስፋዬ", "selam.tesfaye", "Africa/Addis_Ababa"),
    ("Kanoa Kealoha", "kanoa.kealoha", "Pacific/Honolulu"),
    ("Aroha Ngāta", "aroha.ngata", "Pacific/Auckland"),
    ("Olivia Chen", "olivia.chen", "Australia/Sydney"),
    ("李美玲", "meiling.li", "Asia/Taipei"),
    ("සඳුනි පෙරේරා", "sanduni.perera", "Asia/Colombo"),
    ("Emma Johnson", "emma.johnson", "America/Chicago"),
    ("Noah Tremblay", "noah.tremblay", "America/Toronto"),
    ("Søren Kjærgaard", "soeren.kjaergaard", "Europe/Copenhagen"),
]

SOURCES = ["referral", "job board", "careers page", "agency", "university", "event"]
HIRED, WITHDRAWN = 6, 4


@dataclass(slots=True)
class DemoPerson:
    """A candidate: their ability, whether they improve, and until when they take part."""

    id: int
    user_id: int | None
    name: str
    ability: float
    progress: float
    row: dict[str, Any]
    until: datetime | None = None
    """Their last day with sessions: hired or withdrawn soon after."""
    ending: str | None = None


def users(base: datetime) -> list[dict[str, Any]]:
    """The rows of ``users``."""
    return [
        {
            "id": id_,
            "email": email,
            "name": name,
            "role": role,
            "timezone": zone,
            "quiet_from": time(22) if id_ in (3, 4, 8) else None,
            "quiet_until": time(7) if id_ in (3, 4, 8) else None,
            "created_at": base - timedelta(days=200 - id_),
        }
        for id_, (email, name, role, zone) in enumerate(USERS, 1)
    ]


def candidates(rng: Random, base: datetime) -> list[DemoPerson]:
    """The forty candidates; a few are hired or withdraw, never the one who can sign in."""
    ending_ids = rng.sample([n for n in range(1, len(CANDIDATES) + 1) if n != CANDIDATE], HIRED + WITHDRAWN)
    people = []
    for id_, (name, local, zone) in enumerate(CANDIDATES, 1):
        applied = base - timedelta(days=rng.triangular(20, 125, 105), minutes=rng.randrange(600))
        ending = None if id_ not in ending_ids else "hired" if ending_ids.index(id_) < HIRED else "withdrawn"
        if ending:
            applied = base - timedelta(days=rng.uniform(95, 125))
        people.append(
            DemoPerson(
                id=id_,
                user_id=CANDIDATE if id_ == CANDIDATE else None,
                name=name,
                ability=rng.uniform(0.72, 0.86) if ending == "hired" else rng.uniform(0.4, 0.84),
                progress=rng.choice((-0.02, 0.0, 0.0, 0.02, 0.04, 0.06)),
                row={
                    "id": id_,
                    "user_id": CANDIDATE if id_ == CANDIDATE else None,
                    "email": f"{local}@demo.example",
                    "name": name,
                    "timezone": zone,
                    "source": rng.choice(SOURCES),
                    "applied_at": applied,
                    "hired_at": None,
                    "withdrawn_at": None,
                    "created_at": applied,
                },
                until=base - timedelta(days=rng.uniform(6, 45)) if ending else None,
                ending=ending,
            )
        )
    return people


def set_outcome(rng: Random, person: DemoPerson, last_ended: datetime, base: datetime) -> None:
    """Set when a candidate was hired or withdrew: some days after their last session ended."""
    if person.ending:
        at = min(last_ended + timedelta(days=rng.uniform(1, 9)), base - timedelta(hours=1))
        person.row[f"{person.ending}_at"] = at
