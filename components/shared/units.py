"""Units of measure: their dimension, and how many of the dimension's first unit one of them is."""

UNITS = (
    *((name, "length", factor) for name, factor in (
        ("mm", 1.0), ("cm", 10.0), ("m", 1000.0), ("inch", 25.4), ("inches", 25.4), ("ft", 304.8), ("foot", 304.8), ("feet", 304.8),
    )),
    *((name, "volume", factor) for name, factor in (
        ("ml", 1.0), ("cl", 10.0), ("l", 1000.0), ("liter", 1000.0), ("litre", 1000.0), ("oz", 29.5735), ("quart", 946.353),
        ("gallon", 3785.41),
    )),
    *((name, "mass", factor) for name, factor in (("g", 1.0), ("kg", 1000.0), ("lb", 453.592), ("lbs", 453.592), ("pound", 453.592))),
    *((name, "storage", factor) for name, factor in (("mb", 1.0), ("gb", 1000.0), ("tb", 1e6))),
    *((name, "power", factor) for name, factor in (("w", 1.0), ("watt", 1.0), ("kw", 1000.0))),
    *((name, "voltage", factor) for name, factor in (("v", 1.0), ("volt", 1.0))),
    *((name, "charge", factor) for name, factor in (("mah", 1.0), ("ah", 1000.0))),
    *((name, "time", factor) for name, factor in (("h", 1.0), ("hour", 1.0), ("day", 24.0))),
)  # fmt: skip
