/**
 * How fast it is: whole models against stock Jlama ({@link io.github.tailorkv.bench.EndToEnd}) and, lengths and settings by
 * turns in one JVM, against each other ({@link io.github.tailorkv.bench.DecodeByTurns}); one layer ({@link
 * io.github.tailorkv.bench.LayerSteps}); kernels ({@link io.github.tailorkv.bench.KernelBenchmark}). What else there is: the
 * memory of reading a prompt ({@link io.github.tailorkv.bench.PrefillMemory}), the disk ({@link
 * io.github.tailorkv.bench.DiskTier}) and the cost of sampling ({@link io.github.tailorkv.bench.SamplingCost}). Each has its
 * command line in its Javadoc; what came out is in {@code integration-tests/BENCHMARKS.md}.
 */
@NullMarked
package io.github.tailorkv.bench;

import org.jspecify.annotations.NullMarked;
