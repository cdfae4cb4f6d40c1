"""Following a log from its genesis: does each entry follow from those before it?"""
