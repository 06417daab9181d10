package io.github.tailorkv.config;

/** A setting that cannot be honoured. The message is one complete line: the property, its value, what is allowed. */
public final class SettingsException extends RuntimeException {

    private static final long serialVersionUID = 1L;

    /** @param message one line for the user */
    public SettingsException(String message) {
        super(message);
    }
}
