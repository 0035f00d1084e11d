"""``ptec estimate`` for spark-submit: the estimate of the next run."""

from jobs.cli import main

if __name__ == "__main__":
    main("estimate")
