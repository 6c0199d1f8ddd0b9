"""Teachers: what answers requests, the engine that asks, and the ledger that keeps every reply.

``ask`` is the one way to a teacher::

    with Ledger.open() as ledger, open_teacher(settings, ledger) as teacher:
        for row in ask(teacher, examples, prompt, parse):
            ...
"""

from understudy.teachers.ask import Parse, Renderer, ask
from understudy.teachers.budget import Budget, Spending, usual_prompt_tokens
from understudy.teachers.doctor import check
from understudy.teachers.ledger import Entry, Ledger, LedgerInfo, ledger_path
from understudy.teachers.rehearsal import Estimate
from understudy.teachers.request import PASSING, Backend, Message, Refused, Reply, Request, TryAgain
from understudy.teachers.settings import Price, RecordedFile, Sampling, TeacherSettings, public_url
from understudy.teachers.teacher import Teacher, backend_of, open_teacher
from understudy.teachers.usage import Usage

__all__ = [
    "PASSING",
    "Backend",
    "Budget",
    "Entry",
    "Estimate",
    "Ledger",
    "LedgerInfo",
    "Message",
    "Parse",
    "Price",
    "RecordedFile",
    "Refused",
    "Renderer",
    "Reply",
    "Request",
    "Sampling",
    "Spending",
    "Teacher",
    "TeacherSettings",
    "TryAgain",
    "Usage",
    "ask",
    "backend_of",
    "check",
    "ledger_path",
    "open_teacher",
    "public_url",
    "usual_prompt_tokens",
]
