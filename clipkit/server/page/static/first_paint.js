// The colour scheme that the user chose, before the first paint: modules come after it, and the page would flash.
{
  let scheme = "system";
  try {
    scheme = localStorage.getItem("clipkit:scheme") ?? scheme;
  } catch {
    // No storage in this browser: as the system.
  }
  if (scheme === "light" || scheme === "dark") document.documentElement.dataset.scheme = scheme;
}
