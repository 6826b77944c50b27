"""What others publish: packages, archives, hubs, pretrained models; compared before use."""
