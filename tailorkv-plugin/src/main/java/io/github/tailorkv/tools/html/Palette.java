package io.github.tailorkv.tools.html;

import java.util.List;

/** Colours that can be told apart without seeing red and green (Okabe and Ito), and scales for heat maps. */
final class Palette {
    private static final List<String> SERIES = List.of(
            "#555555", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800", "#8c3b9e",
            "#7a5230", "#9aa0a6");
    private static final int[][] HEAT = {{247, 251, 255}, {158, 202, 225}, {33, 113, 181}, {8, 48, 107}};
    private static final int[][] SUCCESS = {{200, 40, 40}, {240, 160, 60}, {245, 220, 120}, {150, 200, 100},
        {40, 140, 70}};

    private Palette() {}

    static String series(int index) {
        return SERIES.get(index % SERIES.size());
    }

    /** From pale to dark blue for values from 0 to 1. */
    static String heat(double value) {
        return scale(HEAT, value);
    }

    /** From red to green for values from 0 to 1. */
    static String success(double value) {
        return scale(SUCCESS, value);
    }

    private static String scale(int[][] stops, double value) {
        double at = Math.clamp(value, 0, 1) * (stops.length - 1);
        int low = Math.min((int) at, stops.length - 2);
        double share = at - low;
        StringBuilder colour = new StringBuilder("#");
        for (int i = 0; i < 3; i++) {
            colour.append("%02x".formatted(
                    (int) Math.round(stops[low][i] + share * (stops[low + 1][i] - stops[low][i]))));
        }
        return colour.toString();
    }

    /** Black or white, whichever can be read on a colour. */
    static TextStyle on(String colour) {
        int rgb = Integer.parseInt(colour.substring(1), 16);
        double luminance = 0.299 * (rgb >> 16) + 0.587 * (rgb >> 8 & 255) + 0.114 * (rgb & 255);
        return luminance > 140 ? TextStyle.DARK : TextStyle.LIGHT;
    }
}
