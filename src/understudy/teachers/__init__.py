"""Teachers: what answers requests, the engine that asks, and the ledger that keeps every reply.

``ask`` is the one way to a teacher::

    with Ledger.open() as ledger, open_teacher(settings, ledger) as teacher:
        for row in ask(teacher, examples, prompt, parse):
            ...
"""

from understudy.teachers.ask import Parse, Renderer, ask
from understudy.teachers.backends.offline import NOT_IN_LEDGER, Missing, RepliesMissing, all_answered, all_missing
from understudy.teachers.backends.predicting import Predicting
from understudy.teachers.backends.redact import Secrets
from understudy.teachers.budget import Budget, Spending, usual_prompt_tokens
from understudy.teachers.cassettes.cassette import (
    Cassette,
    Exported,
    Imported,
    import_cassette,
    terms_of,
    write_cassette,
)
from understudy.teachers.cassettes.request_file import RequestFile, import_replies
from understudy.teachers.doctor import check
from understudy.teachers.ledger import Entry, Ledger, LedgerInfo, ledger_path
from understudy.teachers.prices import tell_price, with_price
from understudy.teachers.rehearsal import Estimate
from understudy.teachers.request import PASSING, Backend, Message, Refused, Reply, Request, TryAgain
from understudy.teachers.settings import Price, RecordedFile, Sampling, TeacherSettings, public_url
from understudy.teachers.spent import SpentFile
from understudy.teachers.teacher import Teacher, backend_of, close_all, open_teacher
from understudy.teachers.usage import Usage

__all__ = [
    "NOT_IN_LEDGER",
    "PASSING",
    "Backend",
    "Budget",
    "Cassette",
    "Entry",
    "Estimate",
    "Exported",
    "Imported",
    "Ledger",
    "LedgerInfo",
    "Message",
    "Missing",
    "Parse",
    "Predicting",
    "Price",
    "RecordedFile",
    "Refused",
    "Renderer",
    "RepliesMissing",
    "Reply",
    "Request",
    "RequestFile",
    "Sampling",
    "Secrets",
    "Spending",
    "SpentFile",
    "Teacher",
    "TeacherSettings",
    "TryAgain",
    "Usage",
    "all_answered",
    "all_missing",
    "ask",
    "backend_of",
    "check",
    "close_all",
    "import_cassette",
    "import_replies",
    "ledger_path",
    "open_teacher",
    "public_url",
    "tell_price",
    "terms_of",
    "usual_prompt_tokens",
    "with_price",
    "write_cassette",
]
