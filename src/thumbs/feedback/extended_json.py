"""MongoDB's extended JSON, as mongoexport writes it, in plain values.

In: values like {"$oid": ...}, {"$date": ...}, {"$numberLong": "1"}. Out: text and numbers.
"""


def plain_value(value: object) -> object:
    """The id, date or number that a value of extended JSON wraps; others as they are."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((key, inner),) = value.items()
    if key in ("$oid", "$uuid"):
        return inner
    if key == "$date":
        return plain_value(inner)
    if key in ("$numberLong", "$numberInt"):
        return int(inner)
    return float(inner) if key in ("$numberDouble", "$numberDecimal") else value
