package io.github.tailorkv.tools;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** A text that the user names. */
final class SampleText {
    private SampleText() {}

    static String read(Path file) throws ToolException, IOException {
        if (Files.isDirectory(file)) {
            throw new ToolException(file + " is a folder, not a text");
        }
        String text;
        try {
            text = Files.readString(file);
        } catch (CharacterCodingException e) {
            throw new ToolException(file + " is not a text in UTF-8");
        } catch (NoSuchFileException e) {
            throw new ToolException("there is no file " + file);
        }
        if (text.isBlank()) {
            throw new ToolException(file + " is empty");
        }
        return text;
    }
}
