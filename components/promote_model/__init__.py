"""The champion and challenger gate: promotes on paired intervals only, registers, writes a model card."""
