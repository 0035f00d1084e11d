"""``ptec train`` for spark-submit: executors train together."""

from jobs.cli import main

if __name__ == "__main__":
    main("train")
