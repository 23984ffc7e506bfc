"""Plans of an autoencoder, and of segments in its embedding, from other plans of the same units.

What is picked are the numbers of `benchmarks/segmentation_embedding.py`.
"""

from pydantic import ValidationError

from fedcore import canonical
from fedcore.clusterings import EmbeddingSpec
from fedcore.contracts import Contract
from fedcore.encodings import input_names
from fedcore.errors import InvalidRecordError
from fedcore.learning_rules import Algorithm, ServerAdam
from fedcore.plans import ModelSpec, PrivacyTerms, TrainingPlan
from fedcore.privacy.calibration import noise_multiplier_for
from fedcore.record import first_problem
from fedcore.tasks.task import first_model
from fedcore.weights import encode_weights

TASK = "segmentation"
ROUNDS, CLIP = 60, 0.1
# Steps of a length of their own, whatever the noise: FedAdam, the later half of rounds averaged.
ALGORITHM = Algorithm(
    local_learning_rate=1.0,
    server_optimizer=ServerAdam(kind="adam", learning_rate=0.05, stabiliser=1e-8),
    average_last=ROUNDS // 2,
)


def autoencoding(
    plan: TrainingPlan, contract: Contract, epsilon: float, model: ModelSpec
) -> TrainingPlan:
    """Return the plan with an autoencoder of its features for a model, and the least noise with
    which it claims `epsilon`. Nobody is set aside, for autoencoders are not evaluated.

    Raises: InvalidRecordError `privacy.unreachable_epsilon`, `record.invalid`; MismatchError as
        `input_names`.
    """
    inputs = len(input_names(plan.features, contract))
    noise = noise_multiplier_for(epsilon, plan.delta, ROUNDS + plan.spare_rounds, 1.0)
    changes = {
        "title": f"Embedding: {plan.title}",
        "task": TASK,
        "model": model,
        "initial_model": canonical.digest(encode_weights(first_model(TASK, model, inputs))),
        "algorithm": ALGORITHM,
        "rounds": ROUNDS,
        "privacy": PrivacyTerms(l2_clip_norm=CLIP, noise_multiplier=noise, delta=plan.delta),
        "holdout": None,
        "metric_floors": None,
        "mitigation": None,
        "early_stopping": None,
    }
    return TrainingPlan.from_json(plan.model_copy(update=changes).to_json())


def embedded(plan: TrainingPlan, autoencoder: TrainingPlan, artifact: str) -> TrainingPlan:
    """Return a plan of segments that searches them in the embedding of a trained autoencoder.

    Features and units are those of the autoencoder's plan; releases, noise and what they claim stay
    as they are. An earlier version is continued no longer, unless it lies in the same embedding.
    Args: `artifact` is the digest of the trained autoencoder.
    Raises: InvalidRecordError `plan.no_embedding` unless the plans are one of centres and one of an
        autoencoder, under one contract; `record.invalid`.
    """
    course, trained = plan.model.course, autoencoder.model
    if course is None or trained.embedding is None or plan.contract != autoencoder.contract:
        raise InvalidRecordError(
            "plan.no_embedding",
            "name a plan of centres, and one of an autoencoder under the same contract",
        )
    spec = _spec(artifact, trained.hidden, trained.embedding)
    # Centres elsewhere are no earlier ones of these.
    continues = course.continues if course.embedding == spec else None
    moved = course.model_copy(update={"embedding": spec, "continues": continues})
    model = ModelSpec(kind="centres", course=moved)
    first = encode_weights(first_model(TASK, model, spec.width))
    changes = {
        "features": autoencoder.features,
        "units": autoencoder.units,
        "model": model,
        "initial_model": canonical.digest(first),
    }
    return TrainingPlan.from_json(plan.model_copy(update=changes).to_json())


def _spec(artifact: str, hidden: tuple[int, ...], width: int) -> EmbeddingSpec:
    try:
        return EmbeddingSpec(artifact=artifact, hidden=hidden, width=width)
    except ValidationError as error:
        raise InvalidRecordError("plan.no_embedding", first_problem(error)) from error
