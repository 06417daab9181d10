package io.github.tailorkv.config;

import java.util.Locale;

/** How the cache of one layer is kept once it is decided. */
public enum LayerKind {
    /** Keys and values as the host would keep them. */
    EXACT,
    /** All tokens attended, keys and values quantized to 1, 2, 4 or 8 bits. */
    QUANTIZED,
    /** Keys and values offloaded, only the dominant tokens attended exactly. */
    RETRIEVAL;

    /** The name in reports and in JSON. */
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}
