"""Settings of extract_logs: recipe section `logs`."""

import hashlib
import os
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from components.extract_logs.window import oldest_day
from components.shared.config import StepConfig
from components.shared.schema import ACTIONS


class ExtractLogsConfig(StepConfig):
    """What is read, what is dropped, and how positions are corrected."""

    window_days: int = Field(28, ge=1, le=3660, description="Length of the window of events that is kept, in days.")
    lag_days: int = Field(0, ge=0, le=60, description="Days before the date that are left out because late rows may still arrive.")
    late_days: int = Field(3, ge=0, le=60, description="How long after its day a row may arrive, in days; later partitions are not read.")
    max_malformed_share: float = Field(
        0.05, ge=0, le=1, description="Share of malformed rows, 0 to 1, above which the step refuses the log."
    )
    action_names: dict[str, str] = Field(
        {name: name for name in ACTIONS}, description="Action of the log -> ours (impression, click, add_to_cart, purchase)."
    )
    ignored_actions: tuple[str, ...] = Field(
        ("search", "on_search", "view", "watch"),
        description="Well-formed actions of the log that say nothing about a query's items; dropped and counted, never malformed.",
    )
    min_clients: int = Field(3, ge=1, description="Distinct clients that must have typed a query before it leaves the warehouse (count).")
    retention_days: int = Field(
        0,
        ge=0,
        le=3660,
        description="Days after which an event may no longer be kept; older ones are never written. 0: no retention is set.",
    )
    min_day_share: float = Field(
        0.5, ge=0, le=1, description="Share of the usual day's kept events, 0 to 1, below which the window's last day counts as partial."
    )
    max_quarantine_rows: int = Field(1000, ge=0, le=100_000, description="Malformed rows of each reason in the quarantine file (count).")
    client_salt_variable: str = Field("LOG_CLIENT_SALT", description="Environment variable that holds the secret salt of client hashes.")
    bot_searches_per_minute: float = Field(20.0, gt=0, description="Sustained searches per minute above which a client is a bot.")
    bot_burst_minutes: int = Field(5, ge=1, description="How long that rate must be sustained, in minutes.")
    bot_pace_factor: float = Field(
        10.0, gt=1, description="How many times shorter than the usual client's a client's middle pause between searches makes it a bot."
    )
    bot_pace_searches: int = Field(20, ge=2, description="Pauses between searches from which a client's pace is looked at (count).")
    bot_impressions: int = Field(2000, ge=1, description="Impressions without one click from which a client is a bot (count).")
    bot_clicks: int = Field(50, ge=1, description="Clicks from which the pattern of clicked positions is looked at (count).")
    bot_top_positions: int = Field(3, ge=1, description="The first positions that click bots stay on (positions).")
    bot_top_share: float = Field(
        0.98, gt=0, le=1, description="Share of a client's clicks on these positions, 0 to 1, that makes it a bot."
    )
    bot_blind_share: float = Field(
        0.9, gt=0, le=1, description="Share of a client's clicks on items that its search never showed, 0 to 1, that makes it a bot."
    )
    session_gap_minutes: int = Field(
        30, ge=1, description="Pause that ends a session where the log names none, in minutes (the usual value of web analytics)."
    )
    hide_evaluated_queries: bool = Field(
        False, description="Drop searches for dev and test queries and their rewordings, to report without their behavior evidence."
    )
    propensity: Literal["power", "estimated", "em", "swap"] = Field(
        "power",
        description="Examination of positions: `power` law; from the log as `estimated` (same pairs at two positions), "
        "`em` (click model, expectation maximisation) or `swap` (shuffled searches).",
    )
    propensity_trust: bool = Field(
        False, description="Under `em`: whether a position may earn clicks by itself, which are then taken out of `corrected_clicks`."
    )
    propensity_bucket: str = Field(
        "explore", description="Under `swap`: value of `query_attributes.experiment` of the searches whose results were shuffled."
    )
    propensity_min_impressions: int = Field(
        100, ge=2, description="Under `em`: impressions that a pair needs to be looked at; rarer ones fit their own noise (count)."
    )
    propensity_exponent: float = Field(
        1.0, ge=0, le=5, description="Exponent eta of the power law position^-eta (Joachims et al. 2017 use 1)."
    )
    propensity_min_clicks: int = Field(
        100, ge=1, description="Clicks that a position and position 1 each need before the estimate is used (count)."
    )
    head_share: float = Field(0.5, gt=0, lt=1, description="Share of all searches that the head queries carry, 0 to 1.")
    torso_share: float = Field(0.8, gt=0, lt=1, description="Share of all searches that head and torso queries carry together, 0 to 1.")
    threads: int = Field(2, ge=1, description="Threads of the SQL engine (count).")
    memory_limit_mib: int = Field(768, ge=128, description="Memory of the SQL engine before it spills to disk, in MiB.")
    temp_folder: str = Field("", description="Local folder for spilled rows; empty for the system's.")

    @field_validator("action_names")
    @classmethod
    def _known_actions(cls, names: dict[str, str]) -> dict[str, str]:
        for theirs, ours in names.items():
            if ours not in ACTIONS:
                raise ValueError(f"'{theirs}' is mapped to '{ours}'; allowed: {', '.join(ACTIONS)}")
        return names

    @field_validator("propensity_trust")
    @classmethod
    def _trust_needs_the_click_model(cls, trust: bool, info: ValidationInfo) -> bool:
        if trust and info.data.get("propensity") != "em":
            raise ValueError(f"trust bias is estimated by propensity 'em' only, not by '{info.data.get('propensity')}'")
        return trust

    @field_validator("torso_share")
    @classmethod
    def _above_head(cls, share: float, info: object) -> float:
        head = getattr(info, "data", {}).get("head_share", 0.0)
        if share < head:
            raise ValueError(f"torso_share {share} is below head_share {head}; it counts head and torso together")
        return share

    def references(self) -> dict[str, str]:
        """The salt, so that clients hashed with an old one (or with the public development salt) are hashed again; and the first day that
        may be kept, so that a table from yesterday with a day too much is not used again."""
        kept = {"oldest": str(oldest_day(datetime.now(UTC).date(), self.retention_days))} if self.retention_days else {}
        return kept | {"salt": hashlib.sha256(f"salt:{os.environ.get(self.client_salt_variable, '')}".encode()).hexdigest()}
