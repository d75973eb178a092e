"""What the tests of submission and schedule agree on."""

CPU, GPU = "registry.example/cpu@sha256:" + "a" * 64, "registry.example/gpu@sha256:" + "b" * 64
REVISION = "0123456789abcdef0123456789abcdef01234567"
WHAT = ["--workspace", "gs://bucket/nightly"]
