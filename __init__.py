"""Tokenloom: tokenizers for your own media, one transformer, three decoders."""
