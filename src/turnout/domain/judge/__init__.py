"""The judge: outcomes of tasks in, a verdict on the candidate with its evidence out. Pure."""

from turnout.domain.judge.config import History, JudgeConfig
from turnout.domain.judge.evidence import Evidence, Kind, Verdict
from turnout.domain.judge.judge import Judge
from turnout.domain.judge.power import PowerPlan, plan_power
from turnout.domain.judge.view import view_evidence
from turnout.domain.margins import Margins

__all__ = [
    "Evidence",
    "History",
    "Judge",
    "JudgeConfig",
    "Kind",
    "Margins",
    "PowerPlan",
    "Verdict",
    "plan_power",
    "view_evidence",
]
