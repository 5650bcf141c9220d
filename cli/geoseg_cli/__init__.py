"""The command line: parse, call one library verb, report."""
