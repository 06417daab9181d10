package io.github.tailorkv.live;

/**
 * One open session as {@link ModelMXBean} shows it.
 *
 * @param session its id, or what it is for
 * @param busy whether it is in a turn
 * @param tokens tokens held
 * @param residentBytes bytes in RAM
 * @param offloadedBytes bytes in the offload tier
 */
public record SessionReading(String session, boolean busy, long tokens, long residentBytes, long offloadedBytes) {}
