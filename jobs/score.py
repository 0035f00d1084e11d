"""``ptec score`` for spark-submit: the nightly job."""

from ptec_jobs.cli import main

if __name__ == "__main__":
    main("score")
