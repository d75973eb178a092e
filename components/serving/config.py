"""Settings of the server."""

from typing import Literal

from pydantic import Field

from components.shared.config import StepConfig


class ServingConfig(StepConfig):
    """Where the server listens, how it computes, and what it refuses."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one, which the log names.")
    name: str = Field("relevance-student", pattern=r"^[A-Za-z0-9_.\-]+$", description="Name of the model in /v2/models/NAME.")
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="Which exported file is read; auto: int8 where the export found that it orders like fp32, else fp32."
    )
    runtime: Literal["auto", "openvino", "onnxruntime"] = Field(
        "auto", description="What computes; auto: OpenVINO where it is installed and has such a file, else ONNX Runtime."
    )
    num_threads: int = Field(0, ge=0, description="Threads that compute; 0 takes all cores.")
    batch_tokens: int = Field(1024, ge=16, description="Tokens of one forward pass, padding included; rows of similar length share one.")
    max_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="How long an idle server waits for more requests to compute together, in milliseconds."
    )
    max_batch_pairs: int = Field(256, ge=1, description="Pairs computed together, at most; a larger request is computed alone.")
    max_queued_pairs: int = Field(2000, ge=1, description="Pairs that may wait; beyond them requests are answered with 429.")
    max_queued_s: float = Field(
        2.0, gt=0, description="Seconds that a request may wait while others are computed; then it is answered with 503 and not computed."
    )
    num_cached_scores: int = Field(200_000, ge=0, description="Scores kept, the last used; 0 keeps none.")
    num_cached_vectors: int = Field(100_000, ge=0, description="Vectors of texts kept by a bi-encoder, the last used; 0 keeps none.")
    max_body_bytes: int = Field(2_000_000, ge=1, description="Bytes of a request's body, at most; beyond: 413.")
    max_items: int = Field(1000, ge=1, description="Items of one request, at most; beyond: 413.")
    max_text_chars: int = Field(4000, ge=1, description="Characters of one text, at most; beyond: 413. Models read the first few hundred.")
    drain_s: float = Field(5.0, ge=0, description="Seconds between SIGTERM, when ready turns false, and the end of listening.")
    grace_s: int = Field(20, ge=1, description="Whole seconds that requests in flight may take after that.")
