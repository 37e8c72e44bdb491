"""Names of PyTorch functions by their role in counting: data of ``ops/functions.py``.

A name covers the functions of that name in all namespaces (``torch.abs``, ``Tensor.abs``,
``torch.ops.aten.abs``), the in-place one (``abs_``), the one with the prefix of a namespace
(``linalg_norm``), the one for lists of tensors (``_foreach_abs``), the one with a copied result
(``view_copy``) and its backward kernel. Functions with a parser are not repeated here.

Sorted within each block. Blocks were generated from the functions of PyTorch 2.13, completed with
2.14, and reviewed by hand; functions of newer versions are unknown until added here.
"""

from __future__ import annotations

# Functions that contract, by the reason why they are not counted. In reports the reason follows the
# name of the function.
UNCOUNTED = {
    "a fused recurrent network: the spikes between its steps cannot be observed": """
        _cudnn_rnn _lstm_mps lstm_mps miopen_rnn mkldnn_rnn_layer quantized_gru quantized_lstm
    """,
    "a fused recurrent cell called by its internal name": """
        _thnn_differentiable_gru_cell _thnn_differentiable_lstm_cell _thnn_fused_gru_cell
        _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl
    """,
    "a contraction of three operands": "_trilinear bilinear",
    "a sparse kernel": """
        _cslt_sparse_mm _cslt_sparse_mm_search hspmm sampled_addmm smm _sparse_addmm _sparse_mm
        _sparse_mm_reduce_impl _sparse_semi_structured_addmm _sparse_semi_structured_linear
        _sparse_semi_structured_mm _sparse_sparse_matmul spmm sspaddmm
    """,
    "a chain of products in one call": """
        chain_matmul _compute_linear_combination matrix_exp matrix_power multi_dot
    """,
    "a convolution called by its internal name": """
        _conv_depthwise2d conv_depthwise3d conv_tbc _convolution convolution
        convolution_backward_overrideable _convolution_double _convolution_mode
        convolution_overrideable cudnn_convolution cudnn_convolution_add_relu
        cudnn_convolution_relu cudnn_convolution_transpose miopen_convolution
        miopen_convolution_add_relu miopen_convolution_relu miopen_convolution_transpose
        miopen_depthwise_convolution mkldnn_convolution _mps_convolution mps_convolution
        _mps_convolution_transpose mps_convolution_transpose _nnpack_spatial_convolution
        _slow_conv2d _slow_conv2d_forward slow_conv3d slow_conv3d_forward slow_conv_dilated2d
        slow_conv_dilated3d slow_conv_transpose2d slow_conv_transpose3d thnn_conv2d
    """,
    "a product of vectors": """
        addr cosine_embedding_loss cosine_similarity ger kron outer vecdot
    """,
    "a quantised, scaled or grouped matrix product": """
        _dyn_quant_matmul_4bit fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation
        fbgemm_linear_int8_weight fbgemm_linear_int8_weight_fp32_activation _grouped_mm grouped_mm
        _mixed_dtypes_linear quantized_gru_cell quantized_lstm_cell quantized_rnn_relu_cell
        quantized_rnn_tanh_cell _scaled_grouped_mm scaled_grouped_mm _scaled_grouped_mm_v2 scaled_mm
        _wrapped_quantized_linear_prepacked
    """,
    "a weight of four bits, packed in a layout of the kernel's own": """
        _weight_int4pack_mm _weight_int4pack_mm_with_scales_and_zeros
    """,
    "a fused kernel": """
        _addmm_activation _cudnn_attention _cudnn_attention_forward _efficient_attention
        _efficient_attention_forward _flash_attention _flash_attention_forward
        _flash_attention_forward_no_dropout_inplace _foreach_mm linear_cross_entropy mkldnn_linear
        mkldnn_linear_backward_input mkldnn_linear_backward_weights _native_multi_head_attention
        _scaled_dot_product_attention_math _scaled_dot_product_attention_math_for_mps
        _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention
        _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_fused_attention_overrideable _transformer_encoder_layer_fwd
        _triton_multi_head_attention _triton_scaled_dot_attention
    """,
    "sums of rows of a weight": """
        _embedding_bag embedding_bag _embedding_bag_dense _embedding_bag_forward_only
        _embedding_bag_per_sample_weights _embedding_bag_sparse
    """,
    "products of all pairs": "_cdist _cdist_forward _euclidean_dist cdist corrcoef cov",
    "a matrix product with a grid of positions": """
        affine_grid affine_grid_generator cudnn_affine_grid_generator
    """,
    "a Fourier transform": """
        fft fft2 _fft_c2c _fft_c2r _fft_r2c fftn hfft hfft2 hfftn ifft ifft2 ifftn ihfft ihfft2
        ihfftn irfft irfft2 irfftn istft rfft rfft2 rfftn stft
    """,
    "a solver, an inverse or a decomposition": """
        cholesky cholesky_ex cholesky_inverse cholesky_solve _cholesky_solve_helper cond det eig
        eigh eigvals eigvalsh geqrf householder_product inv inv_ex inverse ldl_factor ldl_factor_ex
        ldl_solve _linalg_det _linalg_eigh _linalg_eigvals _linalg_slogdet _linalg_solve_ex
        _linalg_svd lobpcg logdet lstsq lu lu_factor lu_factor_ex lu_solve _lu_with_info matrix_rank
        matrix_sqrth nuclear_norm orgqr ormqr pca_lowrank pinv pinverse qr slogdet solve solve_ex
        solve_triangular _spsolve svd svd_lowrank svdvals symeig tensorinv tensorsolve
        triangular_solve
    """,
    "a loss with a function of its own": "triplet_margin_with_distance_loss",
    # ``torch.autograd.grad``, too: ``ops/functions.py`` adds it, as ``Tensor.grad`` has its name.
    "a backward pass within the forward": "_backward backward",
}

# Operators of Python, with their reflected forms and those in place.
OPERATORS = "add and div floordiv lshift mod mul or pow rshift sub truediv xor"

# Each output element depends on the elements at its position in the (broadcast) inputs: a parameter
# is added to an activation, scales it or is compared with it.
ELEMENTWISE = """
    __abs__ abs absolute acos acosh add _add_relu addcdiv addcmul airy_ai alpha_dropout angle apply
    arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh bernoulli
    bessel_j0 bessel_j1 bessel_y0 bessel_y1 binomial bitwise_and bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor bucketize ceil celu chebyshev_polynomial_t
    chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w clamp clamp_max clamp_min
    clip complex _conj_physical conj_physical copysign cos cosh cross deg2rad dequantize digamma
    _dirichlet_grad div divide dropout dropout1d dropout2d dropout3d elu entr __eq__ eq erf erfc
    erfcx erfinv exp exp2 expit expm1 _fake_quantize_learnable_per_channel_affine
    _fake_quantize_learnable_per_tensor_affine fake_quantize_per_channel_affine
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine
    fake_quantize_per_tensor_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams feature_alpha_dropout feature_dropout
    fix float_power floor floor_divide fmax fmin fmod frac frexp _fused_dropout
    fused_moving_avg_obs_fake_quant _fused_moving_avg_obs_fq_helper
    _fused_moving_avg_obs_fq_helper_functional gammainc gammaincc gammaln gcd __ge__ ge gelu glu
    glu_backward_jvp glu_jvp greater greater_equal __gt__ gt hardshrink hardsigmoid hardswish
    hardtanh heaviside hermite_polynomial_h hermite_polynomial_he hypot i0 i0e i1 i1e igamma
    igammac infinitely_differentiable_gelu __invert__ isclose isfinite isin isinf isnan isneginf
    isposinf isreal laguerre_polynomial_l lcm ldexp __le__ le leaky_relu legendre_polynomial_p lerp
    less less_equal lgamma log log10 log1p log2 log_ndtr log_sigmoid log_sigmoid_forward logaddexp
    logaddexp2 logical_and logical_not logical_or logical_xor logit logsigmoid __lt__ lt
    _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor map map2 masked_fill
    _masked_scale maximum minimum mish modified_bessel_i0 modified_bessel_i1 modified_bessel_k0
    modified_bessel_k1 mul multigammaln multiply mvlgamma nan_to_num native_dropout ndtr ndtri
    __ne__ ne __neg__ neg negative nextafter normal not_equal one_hot poisson polar polygamma
    __pos__ positive pow prelu _prelu_kernel psi quantize_per_channel quantize_per_tensor
    quantize_per_tensor_dynamic rad2deg reciprocal relu relu6 remainder round rrelu
    rrelu_with_noise rrelu_with_noise_functional rsqrt rsub _sample_dirichlet
    scaled_modified_bessel_k0 scaled_modified_bessel_k1 searchsorted selu sgn
    shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v
    shifted_chebyshev_polynomial_w sigmoid sign signbit silu sin sinc sinh softplus softshrink
    softsign spherical_bessel_j0 sqrt square _standard_gamma _standard_gamma_grad sub subtract tan
    tanh tanhshrink threshold true_divide trunc vander where xlog1py xlogy zeta
"""

# Elements are unchanged, or cast, at other positions: views, copies, joins, selections.
MOVEMENT = """
    _add_batch_dim adjoint alias __array_wrap__ as_strided as_strided_scatter as_subclass as_tensor
    asarray atleast_1d atleast_2d atleast_3d _autocast_to_full_precision
    _autocast_to_reduced_precision bfloat16 block_diag bool broadcast_tensors broadcast_to byte
    cartesian_prod _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long
    _cast_Short cat ccol_indices cdouble cfloat chalf channel_shuffle char chunk _chunk_cat clone
    _coalesce coalesce _coalesced col_indices column_stack combinations concat concatenate _conj
    conj constant_pad_nd contiguous _convert_indices_from_coo_to_csr
    _convert_indices_from_csr_to_coo _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu
    copy _copy_from _copy_from_and_resize copy_sparse_to_sparse cpu crow_indices _cslt_compress cuda
    _cudnn_rnn_flatten_weight data __deepcopy__ __delitem__ detach diag diag_embed diagflat diagonal
    diagonal_scatter double dsplit dstack _dyn_quant_pack_4bit_weight embedding embedding_dense
    embedding_renorm embedding_sparse expand expand_as fbgemm_linear_quantize_weight
    fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix fftshift fill_diagonal flatten
    flatten_dense_tensors flip fliplr flipud float from_numpy _fw_primal gather _gather_sparse
    __getitem__ half hsplit hstack ifftshift im2col imag index index_copy index_fill index_put
    _index_put_impl index_select _indices indices int int_repr ipu __iter__
    _jagged_to_padded_dense_forward _lazy_clone lift lift_fresh long lu_unpack _make_dual
    masked_scatter masked_select matrix_H max_unpool1d max_unpool2d max_unpool3d meshgrid mH
    mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight _mkldnn_reshape _mkldnn_transpose
    module_load moveaxis movedim msort mT mtia narrow native_channel_shuffle _neg_view
    _nested_from_padded _nested_from_padded_and_nested_example _nested_from_padded_tensor
    _nested_get_values _nested_select nested_tensor _nested_tensor_from_mask
    _nested_tensor_from_tensor_list _nested_view_from_buffer _nested_view_from_jagged new numpy_T
    _pack_padded_sequence pad _pad_circular _pad_enum _pad_packed_sequence pad_sequence
    _padded_dense_to_jagged_forward permute _pin_memory pin_memory pixel_shuffle pixel_unshuffle
    _propagate_xla_data put ravel real reflection_pad1d reflection_pad2d reflection_pad3d
    _remove_batch_dim repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
    reshape _reshape_alias reshape_as _reshape_copy _reshape_from_tensor resize resize_as
    resize_as_sparse resolve_conj resolve_neg _rev_view_func_unsafe __reversed__ roll rot90
    row_indices row_stack _rowwise_prune _saturate_weight_to_fp16 scatter select select_scatter set
    set_data __setitem__ shallow_copy_data short slice slice_inverse slice_scatter sort
    _sparse_broadcast_to sparse_mask _sparse_mask_projection sparse_resize sparse_resize_and_clear
    _sparse_semi_structured_apply _sparse_semi_structured_apply_dense _sparse_semi_structured_tile
    _spdiags split split_with_sizes squeeze _stack stack swapaxes swapdims t take take_along_dim
    tensor_split tile to _to_copy _to_cpu _to_dense to_dense to_mkldnn to_padded_tensor _to_sparse
    to_sparse _to_sparse_bsc to_sparse_bsc _to_sparse_bsr to_sparse_bsr to_sparse_coo _to_sparse_csc
    to_sparse_csc _to_sparse_csr to_sparse_csr _to_sparse_semi_structured topk
    _transform_bias_rescale_qkv transpose tril triu type type_as unbind unflatten
    unflatten_dense_tensors unfold _unique unique _unique2 unique_consecutive unique_dim
    unique_dim_consecutive _unpack_dual unsafe_chunk _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate unsafe_split unsafe_split_with_sizes
    _unsafe_view unsqueeze _unwrap_for_grad _values values view view_as view_as_complex view_as_real
    _view_func _view_func_unsafe vsplit vstack _wrapped_linear_prepack xpu
"""

# Elements of one tensor are summed, averaged, interpolated, compared or searched: sums, pooling,
# resampling, losses, distances, histograms, positions.
REDUCTION = """
    adaptive_avg_pool1d _adaptive_avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool1d_with_indices adaptive_max_pool2d
    adaptive_max_pool2d_with_indices adaptive_max_pool3d adaptive_max_pool3d_with_indices all amax
    amin _aminmax aminmax any argmax argmin argsort argwhere avg_pool1d avg_pool2d avg_pool3d
    binary_cross_entropy binary_cross_entropy_with_logits bincount choose_qparams_optimized
    _choose_qparams_per_tensor col2im count_nonzero cross_entropy cross_entropy_loss _ctc_loss
    ctc_loss _cudnn_ctc_loss cudnn_grid_sampler cummax _cummax_helper cummaxmin cummin
    _cummin_helper cumprod cumsum cumulative_trapezoid diff dist fold fractional_max_pool2d
    fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices
    frobenius_norm gaussian_nll_loss gradient grid_sample grid_sampler grid_sampler_2d
    _grid_sampler_2d_cpu_fallback grid_sampler_3d hash_tensor hinge_embedding_loss histc histogram
    histogramdd _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors
    huber_loss index_add index_reduce interpolate _is_all_true _is_any_true kl_div kthvalue l1_loss
    _logcumsumexp logcumsumexp logsumexp lp_pool1d lp_pool2d lp_pool3d margin_ranking_loss
    matrix_norm max max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices
    max_pool3d max_pool3d_with_indices mean median min miopen_ctc_loss mkldnn_adaptive_avg_pool2d
    mkldnn_max_pool2d mkldnn_max_pool3d mode mse_loss multi_margin_loss multilabel_margin_loss
    multilabel_margin_loss_forward multilabel_soft_margin_loss multinomial nanmean nanmedian
    nanquantile nansum native_norm _nested_sum nll_loss nll_loss2d nll_loss2d_forward
    nll_loss_forward nll_loss_nd nonzero nonzero_numpy nonzero_static norm norm_except_dim
    pairwise_distance _pdist pdist _pdist_forward poisson_nll_loss _powsum powsum prod quantile
    quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d scatter_add scatter_reduce
    _segment_reduce segment_reduce smooth_l1_loss soft_margin_loss _sparse_csr_prod _sparse_csr_sum
    _sparse_sum std std_mean sum sum_to_size trace trapezoid trapz triplet_margin_loss
    unravel_index upsample upsample_bicubic2d _upsample_bicubic2d_aa upsample_bilinear
    upsample_bilinear2d _upsample_bilinear2d_aa _upsample_lanczos2d_aa upsample_linear1d
    upsample_nearest upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    upsample_trilinear3d value_selecting_reduction var var_mean vector_norm
"""

# Elements are scaled by a statistic of their neighbours.
NORMALISATION = """
    batch_norm batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt
    batch_norm_gather_stats batch_norm_gather_stats_with_counts _batch_norm_impl_index
    _batch_norm_no_update batch_norm_stats batch_norm_update_stats _batch_norm_with_update
    _batch_norm_with_update_functional cudnn_batch_norm _fused_rms_norm group_norm gumbel_softmax
    instance_norm layer_norm local_response_norm _log_softmax log_softmax
    _log_softmax_backward_data _masked_softmax miopen_batch_norm native_batch_norm
    _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training native_group_norm native_layer_norm
    _nested_tensor_softmax_with_shape normalize quantized_batch_norm renorm rms_norm _safe_softmax
    _softmax softmax _softmax_backward_data softmin _sparse_log_softmax
    _sparse_log_softmax_backward_data _sparse_softmax _sparse_softmax_backward_data _weight_norm
    _weight_norm_differentiable _weight_norm_interface
"""

# A new tensor of constant or random numbers; only shapes and dtypes may come from another tensor.
CREATION = """
    arange bartlett_window blackman_window cauchy constant _cudnn_init_dropout_state _dim_arange
    _efficientzerotensor empty _empty_affine_quantized empty_like
    _empty_per_channel_affine_quantized empty_permuted empty_quantized empty_strided exponential
    eye fftfreq fill _fill_mem_eff_dropout_mask _from_blob from_file frombuffer full full_like
    geometric hamming_window hann_window kaiming_uniform kaiser_window linspace log_normal logspace
    _make_dep_token new_empty new_empty_strided new_full new_ones new_tensor new_zeros
    _new_zeros_with_same_feature_meta normal_functional ones ones_like _philox_key_fold_in
    _philox_key_split _philox_normal _philox_uniform rand rand_like randint randint_like randn
    randn_like random randperm range rfftfreq scalar_tensor _shape_as_tensor _sobol_engine_draw
    _sobol_engine_ff _sobol_engine_initialize_state _sobol_engine_scramble sparse_bsc_tensor
    _sparse_bsc_tensor_unsafe sparse_bsr_tensor _sparse_bsr_tensor_unsafe sparse_compressed_tensor
    _sparse_compressed_tensor_unsafe _sparse_compressed_tensor_with_dims sparse_coo_tensor
    _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
    sparse_csc_tensor _sparse_csc_tensor_unsafe sparse_csr_tensor _sparse_csr_tensor_unsafe tensor
    tril_indices triu_indices uniform zero zeros zeros_like
"""

# The output is not a tensor: facts of a tensor, Python numbers, checks, modes, hooks, memory
# access.
METADATA = """
    allclose _amp_foreach_non_finite_check_and_unscale _amp_update_scale __array__ _assert
    _assert_async _assert_scalar _assert_tensor_metadata __bool__ can_cast
    _clear_non_serializable_cached_data __complex__ const_data_ptr __contains__ cudnn_is_acceptable
    _cufft_clear_plan_cache _cufft_get_plan_cache_max_size _cufft_get_plan_cache_size
    _cufft_set_plan_cache_max_size data_ptr _debug_has_internal_overlap dense_dim dim dim_order
    _dimI _dimV __dlpack__ __dlpack_device__ element_size _enter_autocast _enter_dual_level equal
    _exit_autocast _exit_dual_level _fix_weakref __float__ __format__ _functional_assert_async
    _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size _fused_adagrad _fused_adam _fused_adamw
    _fused_sdp_choice _fused_sgd get_device get_gradients _has_compatible_shallow_copy_type
    _has_same_storage_numel __hash__ __index__ __int__ is_coalesced is_complex is_conj
    is_contiguous is_distributed is_floating_point is_inference is_leaf is_neg is_nonzero is_pinned
    is_same_size is_set_to is_shared is_signed _is_view is_vulkan_available _is_zerotensor item
    _jvp_decrement_nesting _jvp_increment_nesting lazy_load_decompositions __len__
    _linalg_check_errors _local_scalar_dense __long__ ndimension nelement
    _nested_compute_contiguous_strides_offsets _nested_get_jagged_dummy _nested_get_lengths
    _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets _nested_get_ragged_idx
    _nested_tensor_from_mask_left_aligned _nested_tensor_size _nested_tensor_storage_offsets
    _nested_tensor_strides _nnpack_available _nnz __nonzero__ numel numpy output_nr _parse_to
    _print promote_types q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale
    q_zero_point qscheme record_stream __reduce_ex__ _reduce_ex_internal register_hook
    register_post_accumulate_grad_hook reinforce __repr__ requires_grad _resize_output result_type
    retain_grad retains_grad _set_grad_enabled __setstate__ share_memory size sparse_dim storage
    storage_offset storage_type __str__ stride _sym_acos _sym_asin _sym_atan sym_constrain_range
    sym_constrain_range_for_size _sym_cos _sym_cosh sym_float _sym_int sym_int sym_is_contiguous
    sym_ite sym_max sym_min sym_not sym_numel _sym_sin _sym_sinh sym_size sym_sqrt
    sym_storage_offset sym_stride sym_sum _sym_tan _sym_tanh tolist _typed_storage untyped_storage
    _use_count _use_cudnn_ctc_loss _use_cudnn_rnn_flatten_weight _use_miopen_ctc_loss
    _validate_compressed_sparse_indices _validate_sparse_bsc_tensor_args
    _validate_sparse_bsr_tensor_args _validate_sparse_compressed_tensor_args
    _validate_sparse_coo_tensor_args _validate_sparse_csc_tensor_args
    _validate_sparse_csr_tensor_args _version _vmap_decrement_nesting _vmap_increment_nesting
"""

# Properties of a tensor that return a tensor; the others return facts.
VIEWS = "H T _base _grad data grad imag mH mT real"
FACTS = """
    _backward_hooks _cdata __cuda_array_interface__ device dtype grad_dtype _grad_fn grad_fn
    _has_symbolic_sizes_strides is_cpu is_cuda is_ipu is_leaf is_maia is_meta is_mkldnn is_mps
    is_mtia is_nested is_quantized is_sparse is_sparse_csr is_vulkan is_xla is_xpu itemsize layout
    name names nbytes ndim output_nr _post_accumulate_grad_hooks _python_dispatch requires_grad
    retains_grad shape _version volatile
"""

# Operators of other namespaces than ``aten``, by prefix or suffix of their names. Quantised ones
# that are not named here do not contract; other namespaces are unknown.
QUANTISED = """
    conv embedding_bag int4mm_packed_weight_cpu linear matmul qconv qlinear quantized_gru
    quantized_lstm quantized_rnn wrapped_fbgemm_linear _wrapped_quantized_linear
    wrapped_quantized_linear
"""
PACKING = """
    dilation groups offsets output_padding padding params params_dynamic params_fp16 prepack
    prepack_fp16 prepack_fp16_legacy prepack_legacy prepack_with_rowwise_min_max stride transpose
    unpack unpack_fp16 unpack_sizes _unpacked_weight
"""

# Operators that compute spiking neurons, element by element; their first output is spikes (zeros
# and ones). From SpikingJelly 2.0.0.
NEURONS = frozenset(
    f"sj_{name}::forward" for name in ("if", "lif", "plif", "eif", "qif", "izhikevich")
)
