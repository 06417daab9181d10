/** What runs on a machine with a GPU only: correctness against the CPU, and speed. See {@code integration-tests/gpu}. */
@NullMarked
package io.github.tailorkv.gpu;

import org.jspecify.annotations.NullMarked;
