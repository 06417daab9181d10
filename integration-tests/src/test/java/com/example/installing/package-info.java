/** An application that names TailorKV in one line. */
package com.example.installing;
