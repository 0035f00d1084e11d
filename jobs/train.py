"""``ptec train`` for spark-submit: executors train together."""

from ptec_jobs.cli import main

if __name__ == "__main__":
    main("train")
