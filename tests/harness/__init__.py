"""What the tests share: drivers of the clients, raw Kafka frames, the corpus, the reference broker."""
