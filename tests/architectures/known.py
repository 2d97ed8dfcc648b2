"""What is known by hand about architectures: other published forms, those without residual sums, open failures."""

from __future__ import annotations

# Some forty types, old and new, of every kind, for the plain test run.
SAMPLE: tuple[str, ...] = tuple(
    """
    albert autoformer bart beit bert big_bird bloom canine clip convbert d_fine dbrx deberta-v2 distilbert electra
    evolla falcon fnet
    florence2 gemma3_text gptj gpt2 gpt_neox jamba layoutlm llama mamba mbart mixtral mobilebert modernbert mpnet opt
    phi3 moonshine qwen2_moe qwen3 roberta swin t5 vit wav2vec2-conformer whisper xlm xlnet
    """.split()
)

# Published forms other than {attention + feed-forward (+ cross-attention)} in every layer of one list, judged by hand
# from the papers and the code. A form is the kinds of each layer of each stack in order of execution: A attention,
# X cross-attention, M mixer, C composite, F feed-forward; layers apart by a space, stacks by a bar; n*(...) is short
# for n stacks, AF*n for n layers.
PUBLISHED: dict[str, dict[str, str]] = {
    "Conformer: half a feed-forward, attention, a convolution, half a feed-forward": {
        "canary": "AMFF*2 | AXF*2",
        "cohere_asr": "AMFF*2 | AXF*2",
        "lasr_ctc": "AMFF*2",
        "lasr_encoder": "AMFF*2",
        "nemotron3_5_asr": "AMFF*2",
        "nemotron_asr_streaming": "AMFF*2",
        "nemotron_asr_streaming_encoder": "AMFF*2",
        "parakeet_ctc": "AMFF*2",
        "parakeet_encoder": "AMFF*2",
        "parakeet_rnnt": "AMFF*2",
        "parakeet_tdt": "AMFF*2",
        "wav2vec2-bert": "AMFF*2",
        "wav2vec2-conformer": "AMFF*2",
    },
    "a third branch a layer: Gemma's input embedding of the layer, XMOD's language adapter, a second MLP for audio": {
        "embedding_gemma2": "AFF*2",
        "embedding_gemma2_text": "AFF*2",
        "gemma4": "AFF*2",
        "gemma4_text": "AFF*2",
        "higgs_audio_v2": "AFF*2",
        "xmod": "AFF*2",
    },
    "auto-correlation in place of attention": {
        "autoformer": "MF*2 | MMF*2",
    },
    "a resampler of learned latents, and cross-attention with a feed-forward of its own in some layers": {
        "evolla": "AF*2 | AF*2 | AF AXFF AF AXFF",
    },
    "a convolutional network in front": {
        "detr": "4*(M) | AF*2 | AXF*2",
    },
    "experts and a shared feed-forward, added in the block itself": {
        "granitemoehybrid": "MFF*2",
        "longcat_flash": "AAFFF*2",  # two attentions, two feed-forwards, experts beside them
    },
    "one branch a layer": {
        "clvp": "A*2 | AF*2 | AF*2 | AF*2",
        "nemo_speechlm": "AF*2 | AF*2 | M F M F M A F M F M F M A F M F M F M A F M F M F M"
        " A F M F M F M A F M F M F M F M A F M F M F M F M F",
        "nemotron_h": "M F A F",
    },
    "layers that are not called as modules, so that no hook of the test sees them run": {
        "squeezebert": "AF*2",
    },
    "lists beside each other instead of one list of layers": {
        "flaubert": "AF*2",
        "xlm": "AF*2",
    },
    "several modalities or kinds of tokens in one layer, each with branches of its own": {
        "grounding-dino": "AF*2 | 4*(AF*2) | AAXXFF*2 | AXXF*3",
        "mm-grounding-dino": "AF*2 | 4*(AF*2) | AAXXFF*2 | AXXF*3",
        "sam3": "AF*2 | AF*2 | AXF*2 | AXXF*2 | X",
        "groupvit": "AF*2 | XXFF*2 | AF*2 | AF*2 | AF*2",
        "lxmert": "AF*2 | AF*2 | AAXFF*2",  # one cross-attention, called for the text and for the image
        "pegasus_x": "AXFF*2 | AXF*3",  # tokens and global tokens
        "timesformer": "AAF*2",  # over time, over space
        "xclip": "AAF*2 | AF | AF*2 | XF*2",  # attention of the messages between frames first
    },
    "attention over positions and over channels, with convolutions between": {
        "florence2": "AAMMMMFF | AAMMMMFF | AAMMMMFF*2 | AAMMMMFF | AF*2 | AXF*3",
    },
    "stages with residual sums around or beside the layers' own": {
        "levit": "AAFFF AAFFF AAFF",
        "mobilebert": "ACFFFF*2",  # four feed-forwards, and the bottleneck around them all
        "swin2sr": "6*(AF*2) | C*6",
        "swiftformer": "4*(M AMF)",
    },
    "numbers of layers that no field of the configuration states": {
        "canine": "AF | AF*2 | AF",
        "hrm_text": "AF*12 | AF*4",  # cycles
        "mllama": "AF",  # the layer of cross-attention is skipped without images
        "mobilevit": "M*2 | AF*2 | AF*4 | AF*3",
        "mobilevitv2": "M | AF*2 | AF*4 | AF*3",
    },
    "convolutional codecs around transformers": {
        "mimi": "M*4 | AF*2 | AF*2 | M*4",
        "mimi_encoder": "M*4 | AF*2",
        "pocket_tts_audio_tokenizer": "M*3 | AF*2 | AF*2 | M*3",
        "pocket_tts_audio_tokenizer_encoder": "M*3 | AF*2",
    },
    "convolutional networks: one branch a block": {
        "bit": "4*(M*2)",
        "convnext": "4*(M*2)",
        "convnextv2": "4*(M*2)",
        "dinov3_convnext": "4*(M*2)",
        "mobilenet_v2": "M*10",
        "pp_ocrv6_small_rec": "F FF FFFFFF FF",  # the channel mixers; the token mixers have no residual sum
        "pp_ocrv6_tiny_rec": "F FF FFFFFF FF",
        "resnet": "4*(M*2)",
        "univnet": "3*(M*3) | 3*(M*4)",
    },
}

# Convolutional networks without a single residual sum: discovery finds their convolutions alone, or has to refuse.
NO_RESIDUALS: frozenset[str] = frozenset({"mobilenet_v1", "pp_ocrv5_mobile_rec", "textnet"})

# Wrong or refused today. An entry that starts to be right fails the test, so that it gets removed.
KNOWN_FAILURES: dict[str, str] = {
    "dac": "a codec without attention: the sums over its quantizers are taken for layers, its encoder is not found",
    "fastspeech2_conformer": "its feed-forwards are convolutions, and are reported as mixers",
    "inkling2": "convolutions behind attention are added inside themselves, where no hook reaches the branch",
    "inkling2_text": "convolutions behind attention are added inside themselves, where no hook reaches the branch",
    "mra": "its attention is a CUDA kernel, and zeros on a CPU",
    "patchtsmixer": "both mixers of a layer end in a gate with a softmax, and are reported as attention",
    "perceiver": "the cross-attention layer is in no list of layers",
    "reformer": "reversible layers: two streams, each the other's input",
    "sam": "the first attention of its mask decoder makes the stream and is added to nothing: refused",
    "sam3_lite_text": "its text layers are a token mixer and a convolutional feed-forward: both reported as mixers",
    "sam3_lite_text_text_model": "a token mixer and a convolutional feed-forward: both reported as mixers",
    "vits": "the couplings of its flows are taken for feed-forwards, the WaveNets in them are not found",
}
