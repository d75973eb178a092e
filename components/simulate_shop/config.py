"""Settings of simulate_shop (recipe section `shop`)."""

from datetime import date

from pydantic import Field

from components.shared.config import StepConfig


class SimulateShopConfig(StepConfig):
    """How large the shop is, how its shoppers behave, and how dirty its log is."""

    seed: int = Field(1, ge=0, description="The one seed; the same settings and seed give the same rows.")
    num_items: int = Field(1500, ge=100, le=1_000_000, description="Items in the catalogue.")
    num_queries: int = Field(450, ge=20, le=1_000_000, description="Judged queries.")
    num_log_queries: int = Field(1500, ge=0, le=1_000_000, description="Queries without judgments, most of them rewordings of judged ones.")
    judgments_per_query: int = Field(30, ge=6, description="Judged items of each query: matching, near and random ones.")
    label_noise: float = Field(0.05, ge=0, le=0.5, description="Share of judgments that are one grade off.")
    train_share: float = Field(0.6, gt=0, lt=1, description="Share of judged queries in the train split.")
    dev_share: float = Field(0.15, gt=0, lt=1, description="Share of judged queries in the dev split; the rest is test.")
    start_day: date = Field(date(2026, 9, 1), description="First day of the log.")
    days: int = Field(7, ge=1, le=366, description="Days of the log; late rows arrive up to three days after the last.")
    num_sessions: int = Field(9500, ge=1, description="Shopper sessions over all days; one makes about 21 events.")
    page_size: int = Field(20, ge=3, le=100, description="Results on a page.")
    eta: float = Field(1.0, ge=0, le=3, description="Strength of position bias: a result at position k is examined with k**-eta.")
    trust_bias: bool = Field(False, description="Whether shoppers click examined top results more often than they deserve.")
    zipf: float = Field(0.9, ge=0, le=3, description="Exponent of the popularity of queries.")
    judged_traffic: float = Field(0.6, ge=0, le=1, description="Share of searches that are judged queries.")
    cold_share: float = Field(0.1, ge=0, le=0.9, description="Share of judged queries that nobody types during the log.")
    reformulation_share: float = Field(0.4, ge=0, lt=1, description="Share of later searches of a session that reword the one before.")
    bot_share: float = Field(0.04, ge=0, le=1, description="Searches by bots per search by a person.")
    personal_share: float = Field(0.002, ge=0, le=1, description="Share of searches with personal data typed into the box.")
    duplicate_share: float = Field(0.003, ge=0, le=1, description="Share of rows that are written twice.")
    late_share: float = Field(0.005, ge=0, le=1, description="Share of events that arrive one to three days late.")
    malformed_share: float = Field(0.001, ge=0, le=1, description="Share of events with a broken field.")
