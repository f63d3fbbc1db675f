"""Runnable workspaces with real data and real models; `autoscorer demo` runs them."""
