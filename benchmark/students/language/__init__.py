"""Language models as students: classifier, reward model, policy; adapters are the replicas."""
