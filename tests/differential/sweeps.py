def lists():
    return []
