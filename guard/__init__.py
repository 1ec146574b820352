"""Who guards the guards: bugs put in on purpose, one at a time, and what catches each of them (`reprise self-test`)."""
