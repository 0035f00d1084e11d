"""``ptec verify`` for spark-submit: the check of batches."""

from jobs.cli import main

if __name__ == "__main__":
    main("verify")
