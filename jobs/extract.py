"""``ptec extract`` for spark-submit: the training extract."""

from ptec_jobs.cli import main

if __name__ == "__main__":
    main("extract")
