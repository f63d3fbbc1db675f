"""The flow runtime: takes due flow runs from work pools, and has each worked on in a process forked for it."""
