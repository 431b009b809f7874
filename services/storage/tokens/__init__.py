"""Everything that runs a base model's tokenizer and chat template for storage, in a process of its own.

Templates and tokenizers come from strangers, and a tokenizer is native code: what it does wrong ends
this process, not the service.
"""
