"""Lines of comma-separated values."""


def split(line):
    """The fields of one line. A quote inside a quoted field is written twice."""
    fields, field, quoted, index = [], "", False, 0
    while index < len(line):
        character = line[index]
        if quoted:
            if character == '"' and line[index + 1:index + 2] == '"':
                field += '""'
                index += 1
            elif character == '"':
                quoted = False
            else:
                field += character
        elif character == '"':
            quoted = True
        elif character == ",":
            fields.append(field)
            field = ""
        else:
            field += character
        index += 1
    fields.append(field)
    return fields
