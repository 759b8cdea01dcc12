"""Times of day."""


def parse(text):
    """Minutes since midnight of a time such as 09:30."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def parts(minutes):
    """Hours and minutes of a time of day."""
    hours = minutes // 60
    return hours, minutes % 60


def later(text, minutes):
    """The time of day so many minutes after another one."""
    hours, rest = parts(parse(text) + minutes)
    return f"{hours:02}:{rest:02}"
