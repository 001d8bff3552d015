"""The cosine between an image and its prompt, by a CLIP-class model of transformers (CLIP, SigLIP, AltCLIP; PickScore)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import Answer, Request
from t2i_eval_kedro.judging.protocols.similarity import SimilaritySettings
from t2i_eval_kedro.models.loading import model_folder
from t2i_eval_kedro.models.processors import ImageSource
from t2i_eval_kedro.schema import FAILED


class SimilarityBackend:
    """Answers a request of one image and one text with their cosine, as text; other requests fail.

    A text longer than the model reads is cut off, and ``usage`` counts the tokens that were.
    """

    def __init__(self, settings: SimilaritySettings, images: ImageSource) -> None:
        """Load the model of ``settings``.

        Raises:
            T2IEvalError: it cannot be loaded, or it is no model of image-text similarity.
        """
        from transformers import AutoModel, AutoProcessor

        load_model: Any = AutoModel
        load_processor: Any = AutoProcessor
        local = model_folder(settings.model) is not None
        try:
            model = load_model.from_pretrained(
                settings.model, revision=settings.revision, local_files_only=local, use_safetensors=True
            )
            processor = load_processor.from_pretrained(
                settings.processor or settings.model, local_files_only=local and settings.processor is None
            )
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().split("\n")[0]
            raise T2IEvalError(f"Similarity model '{settings.model}' cannot be loaded: {reason}") from error
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise T2IEvalError(
                f"Model '{settings.model}' has no features of images and texts; choose a CLIP-class model."
            )
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(device)
        self.processor = processor
        self.images = images
        self.settings = settings
        limit = getattr(getattr(model.config, "text_config", model.config), "max_position_embeddings", None)
        self.max_tokens = int(limit or processor.tokenizer.model_max_length)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Compare in batches, in the order of the requests; one bad image costs its own request alone."""
        for start in range(0, len(requests), self.settings.batch_size):
            numbers = range(start, min(start + self.settings.batch_size, len(requests)))
            readable, pictures = [], []
            for i in numbers:
                message = requests[i].messages[-1]
                if len(requests[i].messages) != 1 or len(message.images) != 1:
                    yield i, Answer("a similarity model compares one image with one text", status=FAILED)
                    continue
                try:
                    pictures.append(self.images.image(message.images[0]))
                    readable.append(i)
                except (OSError, KeyError, ValueError, T2IEvalError) as error:
                    yield i, Answer(f"the image cannot be read: {error}", status=FAILED)
            if readable:
                yield from self._compare(readable, pictures, [requests[i].messages[0].text for i in readable])

    @torch.inference_mode()
    def _compare(self, numbers: list[int], pictures: list[Any], prompts: list[str]) -> list[tuple[int, Answer]]:
        texts = [self.settings.prefix + prompt for prompt in prompts]
        tokenizer = self.processor.tokenizer
        lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
        # SigLIP was trained on texts padded to the full length, CLIP does not mind.
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.model.device)
        pixels = self.processor.image_processor(images=pictures, return_tensors="pt").to(self.model.device)
        texts_seen = _features(self.model.get_text_features(**tokens))
        images_seen = _features(self.model.get_image_features(pixels["pixel_values"]))
        cosines = torch.nn.functional.cosine_similarity(images_seen, texts_seen).tolist()
        return [
            (
                i,
                Answer(
                    repr(cosine), usage={"prompt_tokens": length, "cut_off_tokens": max(0, length - self.max_tokens)}
                ),
            )
            for i, cosine, length in zip(numbers, cosines, lengths, strict=True)
        ]


def _features(output: Any) -> torch.Tensor:
    """The projected features, (N, D): what the method returns, or its pooled output since transformers 5."""
    features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return features.float()
