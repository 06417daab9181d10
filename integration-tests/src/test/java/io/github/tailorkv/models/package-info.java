/**
 * Model folders with random weights, one for every architecture that Jlama decodes: small ones that a test writes in
 * milliseconds, and ones of real size for the speed harness. They say nothing sensible, but their shapes, files and
 * tokenizers are those of real models, and their attention is neither uniform nor one-hot.
 */
@NullMarked
package io.github.tailorkv.models;

import org.jspecify.annotations.NullMarked;
