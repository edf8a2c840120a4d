"""Every sample file of the wire formats: what becomes of it, by a table that a person has gone through.

A file that is new, or gone, fails. A line that names a dead letter or an ignored item states why: it is to change with what reads it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from schemas.call import Call
from schemas.part import Part
from schemas.reasons import DEAD_LETTER_REASONS, IGNORED_REASONS
from tests.decode import pool
from transforms.decode import Skipped, decode_record

OUTCOMES: Final = {
    "anthropic_cache_read.json": "1 http_pair call, usage vendor",
    "anthropic_cache_write.json": "1 http_pair call, usage vendor",
    "anthropic_cache_write_stream.json": "1 http_pair call, usage vendor",
    "anthropic_messages_tools_service_tier.json": "1 http_pair call, usage vendor",
    "anthropic_structured_output_cache_creation_split.json": "1 http_pair call, usage vendor",
    "anthropic_thinking_stream.json": "1 http_pair call, usage vendor",
    "azure_apim_gateway_llm_logs_eventhub.jsonl": "3 azure_gateway part",
    "azure_apim_gateway_logs_eventhub.json": "1 azure_gateway call, usage vendor",
    "azure_chat.json": "1 http_pair call, usage vendor",
    "azure_chat_reasoning.json": "1 http_pair call, usage vendor",
    "azure_chat_stream.json": "1 http_pair call, usage none",
    "azure_embeddings_401.json": "1 http_pair call, usage none",
    "azure_openai_diagnostic_eventhub.json": "1 ignored no_tokens",
    "azure_prompt_content_filtered.json": "1 http_pair call, usage none",
    "bedrock_cloudwatch_subscription_envelope.json": "1 bedrock_log call, usage vendor",
    "bedrock_converse_cross_region_profile_arn.json": "1 http_pair call, usage vendor",
    "bedrock_converse_nova.json": "1 http_pair call, usage vendor",
    "bedrock_converse_stream_nova.json": "1 http_pair call, usage vendor",
    "bedrock_guardrail_converse.json": "1 http_pair call, usage vendor",
    "bedrock_invoke_anthropic_stream.json": "1 http_pair call, usage vendor",
    "bedrock_invoke_llama3.json": "1 http_pair call, usage vendor",
    "bedrock_invoke_nova_cross_region.json": "1 http_pair call, usage vendor",
    "bedrock_invoke_titan_stream.json": "1 http_pair call, usage vendor",
    "bedrock_model_invocation_log_converse.json": "1 bedrock_log call, usage vendor",
    "bedrock_model_invocation_log_invoke_stream.json": "1 bedrock_log call, usage vendor",
    "bedrock_model_invocation_log_s3_offloaded.json": "1 bedrock_log call, usage vendor",
    "cloudevents_kafka_binary_headers.json": "1 dead unknown_format",
    "cloudevents_openmeter_litellm.json": "1 usage_event call, usage gateway",
    "cohere_v2_chat_tools.json": "1 http_pair call, usage vendor",
    "deepseek_chat_stream_usage.json": "1 http_pair call, usage vendor",
    "envoy_ai_gateway_access_log.json": "1 envoy call, usage gateway",
    "gcp_log_entry_app_llm_call.json": "1 http_pair call, usage vendor",
    "gcp_log_entry_real.json": "1 ignored plain_log",
    "gcp_log_entry_split.jsonl": "2 cloud_logging part",
    "gcp_otel_genai_log_entry.json": "1 otel_log_entry call, usage vendor",
    "gcp_pubsub_push_logentry.json": "1 http_pair call, usage vendor",
    "gemini_generate_content.json": "1 http_pair call, usage vendor",
    "groq_chat_stream.json": "1 http_pair call, usage vendor",
    "helicone_message_data.json": "1 helicone call, usage none",
    "kong_ai_log.json": "1 kong call, usage gateway",
    "langfuse_ingestion_batch.json": "2 ignored roll_up; 2 langfuse_events part",
    "langfuse_observations_v2_export_row.json": "1 langfuse call, usage gateway",
    "litellm_anthropic_server_tool_usage_object.json": "1 dead unknown_format",
    "litellm_spend_logs_payload.json": "1 litellm_spend call, usage gateway",
    "litellm_standard_logging_payload.json": "1 litellm call, usage gateway",
    "litellm_standard_logging_payload_pubsub_fixture.json": "1 litellm call, usage gateway",
    "llmstudio_tracker_get_logs.json": "2 llmstudio call, usage gateway",
    "llmstudio_tracker_post_log_v1.json": "1 llmstudio call, usage gateway",
    "mistral_chat_stream.json": "1 http_pair call, usage vendor",
    "mlflow_span.json": "1 mlflow call, usage vendor",
    "ollama_chat_stream.json": "1 http_pair call, usage vendor",
    "openai_chat_cached_read.json": "1 http_pair call, usage vendor",
    "openai_chat_reasoning.json": "1 http_pair call, usage vendor",
    "openai_chat_service_tier_priority.json": "1 http_pair call, usage vendor",
    "openai_chat_stream_no_usage.json": "1 http_pair call, usage none",
    "openai_chat_tools.json": "1 http_pair call, usage vendor",
    "openai_chat_tools_streaming.json": "1 http_pair call, usage none",
    "openai_compat_stream_with_usage_proxy.json": "1 http_pair call, usage vendor",
    "openai_completions_legacy.json": "1 http_pair call, usage vendor",
    "openai_embeddings.json": "1 http_pair call, usage vendor",
    "openai_error_400_image.json": "1 http_pair call, usage none",
    "openai_responses_reasoning.json": "1 http_pair call, usage vendor",
    "openai_responses_service_tier.json": "1 http_pair call, usage vendor",
    "openai_responses_streaming.json": "1 http_pair call, usage vendor",
    "openai_responses_tool_calls.json": "1 http_pair call, usage vendor",
    "otlp_json_logs_genai.json": "1 ignored not_a_model_call; 1 otlp call, usage vendor",
    "otlp_json_traces_genai.json": "1 ignored not_a_model_call; 1 ignored roll_up; 1 otlp call, usage vendor",
    "otlp_json_traces_openllmetry_legacy.json": "1 otlp call, usage vendor",
    "otlp_proto_logs_genai.binpb": "1 ignored not_a_model_call; 1 otlp call, usage vendor",
    "otlp_proto_traces_genai.binpb": "1 ignored not_a_model_call; 1 ignored roll_up; 1 otlp call, usage vendor",
    "portkey_post_logs.json": "1 portkey call, usage vendor",
    "tensorzero_chat_inference_row.json": "1 ignored roll_up",
    "tensorzero_model_inference_row.json": "1 tensorzero call, usage vendor",
    "usage_bodies_real.jsonl": "125 dead unknown_format",
    "vertex_request_response_bigquery_row.json": "1 vertex_log call, usage vendor",
    "vllm_chat_stream_usage_null.json": "1 http_pair call, usage none",
}
"""By file: what its records are. Of a call, its format and where its usage is from."""


def outcomes(path: Path) -> str:
    found: Counter[str] = Counter()
    for record in pool.sample_records(path):
        for outcome in decode_record(record):
            if isinstance(outcome, Call):
                found[f"{outcome.format} call, usage {outcome.usage_source}"] += 1
            elif isinstance(outcome, Part):
                found[f"{outcome.format} part"] += 1
            elif isinstance(outcome, Skipped):
                assert outcome.reason in IGNORED_REASONS
                found[f"ignored {outcome.reason}"] += 1
            else:
                assert outcome.reason in DEAD_LETTER_REASONS
                found[f"dead {outcome.reason}"] += 1
    return "; ".join(f"{times} {name}" for name, times in sorted(found.items()))


def test_every_file_is_in_the_table(shared: Path) -> None:
    assert {path.name for path in pool.sample_files(shared)} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_becomes_of_a_file(shared: Path, name: str) -> None:
    assert outcomes(shared / "formats" / "samples" / name) == OUTCOMES[name]
