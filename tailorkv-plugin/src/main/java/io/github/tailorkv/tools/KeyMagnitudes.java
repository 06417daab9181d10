package io.github.tailorkv.tools;

/**
 * How large the keys of a layer are.
 *
 * @param mean magnitude over all channels of all KV heads
 * @param largest mean magnitude of the channel in which it is largest
 */
record KeyMagnitudes(double mean, double largest) {}
