package io.github.tailorkv.tools;

import io.github.tailorkv.tools.html.Page;
import io.github.tailorkv.tools.html.Picture;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/** The option of commands that write a report, to have its charts as pictures too. */
final class Pictures {
    @Option(names = "--png", paramLabel = "DIR",
            description = "Also write each chart of the report as a PNG file into this folder; made if it is not there.")
    private @Nullable Path folder;

    /** Complains now about a folder that cannot be had when everything is done. */
    void check() throws ToolException {
        if (folder == null) {
            return;
        }
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw new ToolException("cannot make the folder " + folder + "; name another with --png");
        }
        if (!Files.isWritable(folder)) {
            throw new ToolException("cannot write into " + folder + "; name another folder with --png");
        }
    }

    /** Writes the charts of a page if they are asked for, and says so. */
    void write(Page page, PrintWriter out) throws IOException {
        if (folder != null) {
            out.println("Wrote " + Picture.write(page, folder).size() + " charts as PNG files into " + folder + ".");
        }
    }
}
