// The page of the API's own document. Nothing comes from elsewhere: the policy of the page allows no other address.
const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  // Its badge would be an image of somebody else's server.
  validatorUrl: null,
  onComplete: () => {
    // Whoever signed in on the records page, in this tab, is signed in here.
    const token = sessionStorage.getItem("autoscorer-token");
    if (token) ui.preauthorizeApiKey("bearer", token);
  },
});
