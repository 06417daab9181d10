package io.github.tailorkv.json;

/** A text that is not JSON, or JSON that is not what was expected; the message says where and what. */
public final class JsonException extends Exception {

    private static final long serialVersionUID = 1L;

    /** @param message what is wrong, without a full stop */
    public JsonException(String message) {
        super(message);
    }
}
