//! The sources of our kernels, which are compiled when they are first needed.

/// Kernels that the host launches, by name.
pub(crate) const KERNELS: [&str; 37] = [
    "embed",
    "embedding_gradient",
    "rms_norm",
    "renormalize",
    "rms_norm_backward_bf16",
    "rms_norm_backward_f32",
    "column_partial",
    "column_finish",
    "rotate",
    "swiglu",
    "swiglu_backward",
    "attention_delta",
    "attention_forward_32",
    "attention_forward_64",
    "attention_forward_128",
    "attention_backward_keys_32",
    "attention_backward_keys_64",
    "attention_backward_keys_128",
    "attention_backward_queries_32",
    "attention_backward_queries_64",
    "attention_backward_queries_128",
    "gather_rows",
    "scatter_add",
    "row_scores",
    "logit_gradient",
    "row_values",
    "values_backward",
    "square_sums",
    "adamw",
    "round_to_bf16",
    "fill_cache",
    "append_cache",
    "join_shares",
    "draw",
    "decode_attention_32",
    "decode_attention_64",
    "decode_attention_128",
];

/// All files behind each other, as one program.
pub(crate) fn source() -> String {
    [
        include_str!("kernels/prelude.cuh"),
        include_str!("kernels/rows.cu"),
        include_str!("kernels/attention.cu"),
        include_str!("kernels/head.cu"),
        include_str!("kernels/decode.cu"),
    ]
    .join("\n")
}
