"""A tokenizer and a language model for the tests of text trainers, made here: nothing is downloaded."""

import torch

WORDS = ("[pad]", "[eos]", "[unk]", *"abcdefghijklmnopqrstuvwxyz")


def tokenizer():
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[unk]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[pad]", eos_token="[eos]", unk_token="[unk]", padding_side="left"
    )


def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=64, pad_token_id=0, eos_token_id=1, **sizes)
    )
